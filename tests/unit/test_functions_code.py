"""Code packages: what zips and directories become on disk, and which are refused."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import stat
import struct
import zipfile
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.functions import code as code_module
from streamkit.functions.code import EMPTY, TOO_LARGE, UNREADABLE, CodeStore, aws_hash
from streamkit.functions.state import CodeState
from streamkit.model.errors import InvalidParameterValue, RequestEntityTooLarge, StorageUnavailable
from streamkit.model.limits import CODE_UNPACKED_BYTES_MAX, CODE_ZIP_BYTES_MAX, MIB

T = TypeVar("T")


async def at_once(function: Callable[[], T]) -> T:
    return function()


def run(coroutine: Coroutine[Any, Any, T] | Awaitable[T]) -> T:
    async def main() -> T:
        return await coroutine

    return asyncio.run(main())


def zip_of(files: dict[str, bytes | tuple[bytes, int]], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Entries in order; with a mode where one is given."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as package:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = compression
            data, mode = content if isinstance(content, tuple) else (content, stat.S_IFREG | 0o644)
            entry.external_attr = mode << 16
            package.writestr(entry, data)
    return buffer.getvalue()


def link(target: str) -> tuple[bytes, int]:
    return target.encode(), stat.S_IFLNK | 0o777


@pytest.fixture
def store(tmp_path: Path) -> CodeStore:
    made = CodeStore(tmp_path / "code", run=at_once)
    run(made.start())
    return made


def files_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def names_in(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "code").iterdir()}


def test_a_zip_is_kept_packed_and_unpacked(store: CodeStore) -> None:
    """By the hash of its bytes; AWS writes it in base64."""
    data = zip_of({"app.py": b"x = 1", "lib/util.py": b"y", "empty/": b""})
    code = run(store.put_zip(data))
    assert code == CodeState(hashlib.sha256(data).hexdigest(), len(data), 6)
    assert files_of(store.unpacked(code)) == {"app.py": b"x = 1", "lib/util.py": b"y"}
    assert (store.unpacked(code) / "empty").is_dir()
    assert run(store.read_zip(code.sha256)) == data
    assert aws_hash(code) == "".join(__import__("base64").b64encode(hashlib.sha256(data).digest()).decode())


def test_threads_do_the_work(tmp_path: Path) -> None:
    """The default leaves the event loop free."""
    store = CodeStore(tmp_path / "code")

    async def main() -> CodeState:
        await store.start()
        return await store.put_zip(zip_of({"a": b"1"}))

    assert files_of(store.unpacked(asyncio.run(main()))) == {"a": b"1"}


def test_what_is_unpacked_cannot_be_written(store: CodeStore) -> None:
    """Modes: read-only, executable where the zip says so."""
    code = run(store.put_zip(zip_of({"d/bootstrap": (b"#!", stat.S_IFREG | 0o755), "d/app.py": b""})))
    root = store.unpacked(code)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [root, *root.rglob("*")]}
    assert modes == {code.sha256: 0o555, "d": 0o555, "bootstrap": 0o555, "app.py": 0o444}


def test_equal_packages_are_stored_once(store: CodeStore, tmp_path: Path) -> None:
    """The second is not unpacked again."""
    data = zip_of({"a": b"1"})
    first = run(store.put_zip(data))
    inode = store.unpacked(first).stat().st_ino
    assert run(store.put_zip(data)) == first
    assert store.unpacked(first).stat().st_ino == inode
    assert names_in(tmp_path) == {first.sha256, f"{first.sha256}.zip"}


# -- what is refused -------------------------------------------------------------------------------------------------


def refused(store: CodeStore, data: bytes) -> str:
    with pytest.raises(InvalidParameterValue) as caught:
        run(store.put_zip(data))
    return caught.value.message


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"../evil": b""}, "outside of itself: ../evil"),
        ({"a/../../evil": b""}, "outside of itself"),
        ({"/etc/evil": b""}, "outside of itself: /etc/evil"),
        ({"out": link("/etc/passwd")}, "leads out of it: out"),
        ({"a/out": link("../../evil")}, "leads out of it: a/out"),
        # Each by itself stays inside as text; together they lead out.
        ({"x/up": link(".."), "out": link("x/up/../../evil")}, "leads out of it"),
        # A file written through a link would land beside the package.
        ({"d": link(".."), "d/evil": b""}, UNREADABLE),
        ({"a": b"", "a/b": b""}, UNREADABLE),
        ({"n" * 300: b""}, UNREADABLE),
        ({"only/": b""}, EMPTY),
    ],
)
def test_a_zip_that_leaves_its_directory_is_refused(
    store: CodeStore, tmp_path: Path, files: dict[str, Any], words: str
) -> None:
    """And nothing of it stays behind, inside or outside."""
    (tmp_path / "evil").write_text("untouched")
    assert words in refused(store, zip_of(files))
    assert names_in(tmp_path) == set()
    assert {path.name for path in tmp_path.iterdir()} == {"evil", "code"}
    assert (tmp_path / "evil").read_text() == "untouched"


def test_links_inside_are_kept(store: CodeStore) -> None:
    """To files, directories and other links, in whatever order."""
    files: dict[str, Any] = {"latest": link("lib/one"), "lib/one/a.py": b"1", "lib/again": link("../latest/a.py")}
    root = store.unpacked(run(store.put_zip(zip_of(files))))
    assert (root / "latest/a.py").read_bytes() == b"1"
    assert (root / "lib/again").read_bytes() == b"1"


def test_the_last_of_two_entries_with_one_name_counts(store: CodeStore) -> None:
    """As with every unzipper."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as package:
        package.writestr("a", "one")
        with pytest.warns(UserWarning, match="Duplicate name"):
            package.writestr("a", "two")
    code = run(store.put_zip(buffer.getvalue()))
    assert files_of(store.unpacked(code)) == {"a": b"two"}


def test_what_is_no_zip_is_refused(store: CodeStore) -> None:
    """In AWS's words, whatever is wrong with it."""
    data = zip_of({"a": b"123" * 1000})
    assert refused(store, b"") == EMPTY
    assert refused(store, b"no zip") == UNREADABLE
    assert refused(store, data[: len(data) // 2]) == UNREADABLE
    encrypted = bytearray(data)
    encrypted[6] |= 1
    central = data.index(b"PK\x01\x02")
    encrypted[central + 8] |= 1
    assert refused(store, bytes(encrypted)) == UNREADABLE


@settings(deadline=None)
@given(st.data())
def test_damaged_zips_never_get_out_of_hand(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Any flipped byte gives a package or a refusal, nothing else, and no work left over."""
    directory = tmp_path_factory.mktemp("flipped")
    store = CodeStore(directory / "code", run=at_once)
    run(store.start())
    zipped = bytearray(zip_of({"a.py": b"print(1)" * 20, "b/c.py": b"2"}))
    position = data.draw(st.integers(0, len(zipped) - 1))
    zipped[position] ^= data.draw(st.integers(1, 255))
    try:
        code = run(store.put_zip(bytes(zipped)))
    except InvalidParameterValue:
        assert names_in(directory) == set()
    else:
        assert names_in(directory) == {code.sha256, f"{code.sha256}.zip"}
    assert {path.name for path in directory.iterdir()} == {"code"}


def test_bytes_are_counted_as_they_come(store: CodeStore, tmp_path: Path) -> None:
    """A small zip that unpacks to too much is stopped at the bound, though its headers say it is small."""
    size = CODE_UNPACKED_BYTES_MAX + 5 * MIB
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as package, package.open("bomb", "w") as target:
        for _ in range(size // MIB):
            target.write(bytes(MIB))
    assert len(buffer.getvalue()) < MIB
    assert refused(store, buffer.getvalue()) == TOO_LARGE
    lying = bytearray(buffer.getvalue())
    central = lying.index(b"PK\x01\x02")
    lying[central + 24 : central + 28] = struct.pack("<I", 10)
    assert refused(store, bytes(lying)) in (TOO_LARGE, UNREADABLE)
    assert names_in(tmp_path) == set()


def test_a_zip_may_be_as_large_as_aws_takes(store: CodeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is on the bytes of the request; what lies on this machine may be larger."""
    with pytest.raises(RequestEntityTooLarge, match="Zipped size must be smaller than 52428800 bytes"):
        run(store.put_zip(bytes(CODE_ZIP_BYTES_MAX + 1)))
    monkeypatch.setattr(code_module, "CODE_FILES_MAX", 2)
    assert "at most 2" in refused(store, zip_of({"a": b"", "b": b"", "c": b""}))


# -- directories -----------------------------------------------------------------------------------------------------


def test_a_directory_is_taken_as_it_is_now(store: CodeStore, tmp_path: Path) -> None:
    """Without what tools leave behind; a later change of it changes nothing."""
    source = tmp_path / "source"
    for name in ("app.py", "lib/util.py", "__pycache__/app.pyc", ".git/config", "lib/__pycache__/x", "old.pyc"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    (source / "run.sh").write_text("#!")
    (source / "run.sh").chmod(0o700)
    (source / "link").symlink_to("app.py")
    code = run(store.put_path(source))
    (source / "app.py").write_text("changed")
    root = store.unpacked(code)
    assert files_of(root) == {"app.py": b"app.py", "lib/util.py": b"lib/util.py", "run.sh": b"#!", "link": b"app.py"}
    assert (root / "link").is_symlink()
    assert os.access(root / "run.sh", os.X_OK)
    assert code.unpacked_bytes == len("app.py") + len("lib/util.py") + len("#!")


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["a", "b/c", "b/d", "e/f/g", "h.py"]), st.binary(max_size=50), min_size=1))
def test_equal_directories_are_equal_packages(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    """Whatever the order and the times their files were made in, and whatever lies beside them."""
    root = tmp_path_factory.mktemp("equal")
    store = CodeStore(root / "code", run=at_once)
    codes = []
    for number, names in enumerate((list(files), list(reversed(files)))):
        source = root / str(number)
        for name in names:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(files[name])
            os.utime(source / name, (number * 1000, number * 1000))
        if number:
            (source / "__pycache__").mkdir(parents=True)
            (source / "__pycache__" / "h.pyc").write_bytes(b"")
        codes.append(run(store.put_path(source)))
    assert codes[0] == codes[1]
    assert files_of(store.unpacked(codes[0])) == files


def test_a_package_does_not_depend_on_how_a_disk_lists_it(
    store: CodeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Directories have no order of their own."""
    for name in ("b", "a", "c/e", "c/d"):
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_text(name)
    first = run(store.put_path(tmp_path / "source"))
    listed = Path.iterdir
    for key in (lambda path: path.name, lambda path: [-ord(character) for character in path.name]):
        monkeypatch.setattr(Path, "iterdir", lambda path, key=key: iter(sorted(listed(path), key=key)))
        assert run(store.put_path(tmp_path / "source")) == first


def test_a_zip_file_is_taken_from_its_path(store: CodeStore, tmp_path: Path) -> None:
    """With the same hash as its bytes; what is not there is refused by name."""
    data = zip_of({"a": b"1"})
    (tmp_path / "code.zip").write_bytes(data)
    assert run(store.put_path(tmp_path / "code.zip")) == run(store.put_zip(data))
    with pytest.raises(InvalidParameterValue, match=r"none is neither a directory nor a zip file"):
        run(store.put_path(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidParameterValue, match="non-empty"):
        run(store.put_path(tmp_path / "empty"))


# -- crashes and leftovers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop_before", ["_sync_tree", "_sync", "_close"])
def test_a_crash_in_the_middle_leaves_what_a_start_removes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_before: str
) -> None:
    """A package without its zip is no package; put again it is whole."""
    store = CodeStore(tmp_path / "code", run=at_once)
    run(store.start())
    data = zip_of({"a/b": b"1"})

    class Killed(BaseException):
        pass

    def killed(*arguments: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(code_module, stop_before, killed)
        patch.setattr(code_module, "_remove_tree", lambda path: None)  # a killed process tidies nothing
        with pytest.raises(Killed):
            run(store.put_zip(data))
    assert names_in(tmp_path) != set()
    assert store.packages() == set()
    again = CodeStore(tmp_path / "code", run=at_once)
    run(again.start())
    assert names_in(tmp_path) == set()
    code = run(again.put_zip(data))
    assert files_of(again.unpacked(code)) == {"a/b": b"1"}


def test_only_what_is_retained_stays(store: CodeStore, tmp_path: Path) -> None:
    """Of packages; who asks for another gets none."""
    kept, gone = (run(store.put_zip(zip_of({"d/a": text}))) for text in (b"1", b"2"))
    run(store.retain({kept.sha256}))
    assert names_in(tmp_path) == {kept.sha256, f"{kept.sha256}.zip"}
    assert run(store.read_zip(gone.sha256)) is None
    assert run(store.read_zip("../control.sqlite")) is None
    run(store.start())
    assert store.packages() == {kept.sha256}


def test_a_disk_that_refuses_is_no_fault_of_the_zip(store: CodeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """StorageUnavailable, and nothing is kept."""

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(code_module, "_sync", full)
    with pytest.raises(StorageUnavailable, match="No space left"):
        run(store.put_zip(zip_of({"a": b"1"})))
    assert store.packages() == set()
