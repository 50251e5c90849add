print("called by a shell command")
