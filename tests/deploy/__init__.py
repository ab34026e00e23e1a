"""What deploy/ has, run as far as a machine without containers and without systemd as its first process can."""
