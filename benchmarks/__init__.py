"""`make bench`: this service beside its peers, on one machine, in one run. Each part is a module with `measure`."""
