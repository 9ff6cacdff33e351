"""What the machine and the launcher of the processes provide."""
