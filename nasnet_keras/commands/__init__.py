"""What the commands of the command line do: `inputs` reads and checks, the others carry out."""
