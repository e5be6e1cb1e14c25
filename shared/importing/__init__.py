"""Import weights that were trained elsewhere: read them without running code, recognise the network, compare it with a
reference implementation, and make an artifact."""
