"""Version 1 of the API: one file a resource, with its routes and its wire models."""
