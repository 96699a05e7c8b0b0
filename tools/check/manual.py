# SPDX-License-Identifier: GPL-2.0
"""What the manual pages say of messages, parameters and features, compared with the source."""

import re
from collections.abc import Iterator
from pathlib import Path

PAGES = Path("Documentation/man")
# Where the messages of a page come from.
SOURCES = {
    "virtio.4": ("rust/virtio/", "rust/virtio_ring/"),
    "virtio_pci.4": ("drivers/virtio/virtio_pci/", "rust/abstractions/pci_ext"),
    "virtio_blk.4": ("drivers/block/", "rust/abstractions/block_mq"),
    "virtio_net.4": ("drivers/net/", "rust/abstractions/netdev"),
    "virtio_balloon.4": ("drivers/virtio/virtio_balloon", "rust/abstractions/balloon"),
    "virtio_rng.4": ("drivers/char/", "rust/abstractions/hw_random"),
}
# Whose `FEATURES` a page lists, and where the names of the bits are.
FEATURES = {
    "virtio_blk.4": ("drivers/block/virtio_blk.rs", "rust/virtio_spec/blk.rs"),
    "virtio_net.4": ("drivers/net/virtio_net.rs", "rust/virtio_spec/net.rs"),
    "virtio_balloon.4": ("drivers/virtio/virtio_balloon.rs", "rust/virtio_spec/balloon.rs"),
}
# Values that are printed as a whole, with what is in their place: the `Display` of a type.
DISPLAYED = {
    "drivers/net/virtio_net/interface.rs": ("rust/virtio_spec/notes.rs", ("Note",)),
    "drivers/virtio/virtio_balloon/shared.rs": ("rust/virtio_spec/notes.rs", ("Note",)),
    "drivers/block/virtio_blk/config.rs": ("rust/virtio_spec/notes.rs", ("Note", "Absurd")),
    "drivers/block/virtio_blk/disk.rs": ("rust/virtio_spec/notes.rs", ("Absurd",)),
    "drivers/virtio/virtio_pci/modern.rs": ("rust/virtio_spec/pci_caps.rs", ("CapError",)),
    "rust/virtio_ring/vring.rs": ("rust/virtqueue/error.rs", ("RingError",)),
    # What it prints are the literals that `complain` is called with.
    "drivers/block/virtio_blk/messages.rs": (None, ()),
}
# In which of its messages such a value is, and as which placeholder, from the left.
PLACES = {"{}": 0, "virtqueue {}: {}: broken": 1, "zone at {}: {}": 1}

_STRING = r'"((?:[^"\\]|\\.)*)"'
_MACRO = re.compile(
    r"\b(?:dev|pr)_(?:emerg|alert|crit|err|warn|notice|info)(?:_once|_ratelimited)?!\s*[({][^\"]*?" + _STRING, re.DOTALL
)
# What a function prints that is given a literal, and what netlink is told.
_LITERAL = re.compile(rf'\bcomplain\([^"]*?c{_STRING}|\bc"(virtio_\w+: (?:[^"\\]|\\.)*)"', re.DOTALL)
_WRITTEN = re.compile(rf"write(?:!\(\s*f,|_str\()\s*{_STRING}", re.DOTALL)
_PLACEHOLDER = re.compile(r"\{[^{}]*\}")
_TESTS = re.compile(r"^#\[(?:kunit_tests\(|cfg\(test\))", re.MULTILINE)
_COMMENT = re.compile(r"^\s*//.*$", re.MULTILINE)
_DIAGNOSTICS = re.compile(r"^\.Bl -diag\b.*?^\.El", re.DOTALL | re.MULTILINE)
_ITEM = re.compile(r"^\.It (.+)\n(?=(\.El)?)", re.MULTILINE)
_PARAMETER = re.compile(r"\bmodule_param(?:_named)?\((\w+)")
_FEATURE = re.compile(r'^\s*(\w+) = \d+, "(VIRTIO_\w+)",', re.MULTILINE)


def without_tests(text: str) -> str:
    """The Rust source TEXT without its comments, and without the tests at its end."""
    found = _TESTS.search(text)
    return _COMMENT.sub("", text[: found.start()] if found else text)


def unescaped(literal: str) -> str:
    """A literal of the source as it is printed, without the newline at its end."""
    text = re.sub(r"\\\n\s*", "", literal)
    return text.replace("\\n", "").replace('\\"', '"')


def displayed(text: str, type_: str) -> list[str]:
    """The templates that the `Display` of TYPE_ in the source TEXT prints."""
    found = re.search(rf"^impl (?:core::)?fmt::Display for {type_} \{{$.*?^\}}$", text, re.DOTALL | re.MULTILINE)
    templates = [unescaped(literal) for literal in _WRITTEN.findall(found[0])] if found else []
    if not templates:
        raise ValueError(f"there is no Display of {type_} with literals")
    return templates


def templates(top: Path, name: str) -> Iterator[str]:
    """The templates of all messages of the source file NAME; ValueError if one says nothing of what it prints."""
    text = without_tests((top / name).read_text())
    inner: list[str] = []
    if name in DISPLAYED and (where := DISPLAYED[name][0]) is not None:
        inner = [found for type_ in DISPLAYED[name][1] for found in displayed((top / where).read_text(), type_)]
    for literal in _MACRO.findall(text):
        template = unescaped(literal)
        place = PLACES.get(template)
        if place is None:
            if not re.search(r"\w", _PLACEHOLDER.sub("", template)) and len(_PLACEHOLDER.findall(template)) == 1:
                raise ValueError(f"{name}: {template!r}")
            yield template
            continue
        if name not in DISPLAYED:
            raise ValueError(f"{name}: nobody knows what {template!r} prints")
        holes = [match.span() for match in _PLACEHOLDER.finditer(template)]
        begin, end = holes[place]
        for found in inner:
            yield template[:begin] + found + template[end:]
    for groups in _LITERAL.findall(text):
        yield unescaped(groups[0] or groups[1])


def pattern(template: str) -> re.Pattern[str]:
    """What a message of TEMPLATE looks like on a page."""
    return re.compile(".+".join(re.escape(part) for part in _PLACEHOLDER.split(template)))


def items(page: str) -> Iterator[tuple[str, bool]]:
    """The messages in the lists of diagnostics of PAGE, and whether something is said of each, or of those below it."""
    for block in _DIAGNOSTICS.findall(page):
        for text, end in _ITEM.findall(block):
            yield text, not end


def diagnostics(wanted: set[str], page: str) -> Iterator[str]:
    """Problems of the diagnostics of PAGE, where WANTED are the templates of the source."""
    told: set[str] = set()
    for item, explained in items(page):
        fitting = [template for template in wanted if pattern(template).fullmatch(item)]
        if not fitting:
            yield f"no source prints: {item}"
            continue
        if not explained:
            yield f"nothing is said of: {item}"
        # The one that says most of it.
        told.add(max(fitting, key=lambda template: len(_PLACEHOLDER.sub("", template))))
    for template in sorted(wanted - told):
        yield f"is missing: {template}"


def listed(page: str, macro: str) -> set[str]:
    """The items of PAGE that are marked up with MACRO."""
    return set(re.findall(rf"^\.It {macro} (\S+)", page, re.MULTILINE))


def parameters(top: Path, prefixes: tuple[str, ...], page: str) -> Iterator[str]:
    """Problems of the module parameters of PAGE."""
    files = [path for path in source_files(top, ".c") if path.startswith(prefixes)]
    ours = {name for path in files for name in _PARAMETER.findall((top / path).read_text())}
    for name in sorted(ours ^ listed(page, "Va")):
        yield f"parameter {name}: {'is missing' if name in ours else 'there is none'}"


def features(driver: str, spec: str, page: str) -> Iterator[str]:
    """Problems of the features of PAGE, where DRIVER is the source with the table, and SPEC the one with names."""
    names = dict(_FEATURE.findall(spec))
    found = re.search(r"const FEATURES: Features =(?! FEATURES)(.*?);\n(?=\n|    const)", driver, re.DOTALL)
    ours = {names[name] for name in re.findall(r"with::<(?:\w+::)*(\w+)>", found[1])} if found else set()
    if not ours:
        yield "the driver's features were not found"
    for name in sorted(ours ^ listed(page, "Dv")):
        yield f"feature {name}: {'is missing' if name in ours else 'the driver does not have it'}"


def source_files(top: Path, suffix: str) -> list[str]:
    """The files of the modules that end in SUFFIX, without those that are tests."""
    found = [path.relative_to(top) for base in ("drivers", "rust") for path in (top / base).rglob(f"*{suffix}")]
    return sorted(str(path) for path in found if not {"tests", "fake"} & set(path.with_suffix("").parts))


def problems(top: Path) -> list[str]:
    """All that is wrong with the pages of the tree at TOP."""
    found = []
    wanted: dict[str, set[str]] = {page: set() for page in SOURCES}
    for name in source_files(top, ".rs"):
        try:
            messages = set(templates(top, name))
        except ValueError as error:
            found.append(f"{name}: {error}")
            continue
        owners = [page for page, prefixes in SOURCES.items() if name.startswith(prefixes)]
        if messages and len(owners) != 1:
            found.append(f"{name}: its messages belong to {len(owners)} pages")
        for page in owners:
            wanted[page] |= messages
    for page, prefixes in SOURCES.items():
        text = (top / PAGES / page).read_text()
        checks = [*diagnostics(wanted[page], text), *parameters(top, prefixes, text)]
        if page in FEATURES:
            driver, spec = FEATURES[page]
            checks += features((top / driver).read_text(), (top / spec).read_text(), text)
        found += [f"{PAGES / page}: {problem}" for problem in checks]
    return found
