def loud(text: str) -> str:
    return text.upper()


if __name__ == "__main__":
    print(loud("called by a shell command"))
