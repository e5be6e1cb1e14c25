"""Other people's servers, measured beside ours in environments of their own."""
