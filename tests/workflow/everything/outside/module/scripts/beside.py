def lines(path):
    with open(path) as file:
        return len(list(file))
