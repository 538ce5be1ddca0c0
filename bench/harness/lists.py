"""List files (`user item item ...` a line, items from 0) made from the real data."""


def write(path, rows):
    """`rows` are pairs of a user's number and items."""
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f"{user} {' '.join(map(str, items))}\n" for user, items in rows)


def read(path):
    with open(path, encoding="utf-8") as file:
        for line in file:
            user, *items = map(int, line.split())
            yield user, items


def last_item_out(sequences, folder):
    """Lines `user item` in the order of time, without the last of each user, and the last. Returns the paths and the
    size of the catalogue."""
    users, item_count = {}, 0
    with open(sequences, encoding="utf-8") as file:
        for line in file:
            user, item = map(int, line.split())
            users.setdefault(user, []).append(item)
            item_count = max(item_count, item + 1)
    train, test = folder / "train.txt", folder / "test.txt"
    write(train, ((user, items[:-1]) for user, items in users.items()))
    write(test, ((user, items[-1:]) for user, items in users.items()))
    return train, test, item_count


def item_count(*paths):
    return 1 + max(max(items, default=0) for path in paths for _, items in read(path))


def most_popular(train, count, folder):
    """The same list with only the `count` items that most users have, numbered anew by popularity."""
    frequencies = {}
    for _, items in read(train):
        for item in items:
            frequencies[item] = frequencies.get(item, 0) + 1
    ordered = sorted(frequencies, key=lambda item: (-frequencies[item], item))
    kept = {item: number for number, item in enumerate(ordered[:count])}
    path = folder / "popular.txt"
    rows = ((user, [kept[item] for item in items if item in kept]) for user, items in read(train))
    write(path, ((user, items) for user, items in rows if items))
    return path
