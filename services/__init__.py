"""Who does it: one package a service, ``core`` pure, ``main`` its shell. No service imports another."""
