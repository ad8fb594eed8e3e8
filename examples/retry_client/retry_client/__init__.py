"""Two clients of a UDP service that answers each datagram: one with a bug, one without."""
