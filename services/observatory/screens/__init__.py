"""The screens: each module turns the projections into one struct, which a page draws and the API returns. Pure."""
