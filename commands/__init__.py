"""The commands of jostle: options, printing and files; each imports what it needs when it runs."""
