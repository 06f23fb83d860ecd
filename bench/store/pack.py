"""A run in one file, to take elsewhere: a zip of ``run.json``, of a store of its own, ``cells/``, and of what `latency` measured.

It is read wherever a run's folder is, from a temporary folder that goes with it, and unpacks (`unpack`, or any unzip) into a folder
of a run that holds its cells.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import uuid
import weakref
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path, PurePosixPath
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from anoseg_bench.errors import UsageError
from anoseg_bench.store.cells import MANIFEST, MODEL, OWN_STORE, CellResult, DamagedError, Run, Store, to_json
from anoseg_bench.store.files import naming, written_whole
from anoseg_bench.store.latency import FILE as LATENCIES
from anoseg_bench.store.latency import why_unread

#: The arrays of a cell that are pictures.
_PICTURES = "map/"


def open_run(path: Path) -> Run:
    """Return a run with its cells, of a folder or of a packed file.

    Raises
    ------
    UsageError
        If it is neither.
    """
    return PackedRun.load(path) if path.is_file() else Run.load(path)


@dataclass
class PackedRun(Run):
    """A run out of a packed file, but for its whole maps.

    Attributes
    ----------
    folder : Path
        Where it is unpacked to, as long as the object lives.
    """

    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="anoseg-bench-")))

    @classmethod
    def asked(cls, path: Path) -> Run:
        """Read how the run was asked for, and unpack it."""
        with _opened(path) as (archive, asked):
            packed = cls(path, asked.info, asked.rows)
            weakref.finalize(packed, shutil.rmtree, packed.folder, ignore_errors=True)
            _extract(archive, packed.folder, maps=False)
        return packed

    @property
    def store(self) -> Store:
        """The store in the file."""
        return Store(self.folder / OWN_STORE)


def pack(run: Run, path: Path, *, models: bool = False, maps: bool = False, pictures: bool = True) -> None:
    """Write a run with its cells into one file, whole or not at all; the same run gives the same file.

    Parameters
    ----------
    models, maps : bool
        Whether the trained models, and the maps at the images' size, that were kept go with it.
    pictures : bool
        Whether the reduced images, masks and maps that reports are drawn from do.
    """
    info = run.info.model_copy(update={"pictures": pictures and run.info.pictures})
    manifest = Run(run.path, info, run.rows).manifest
    cells = {row.result.folder.name: row.result for row in run.rows if row.result}
    records = [cell.record for cell in cells.values()]
    previews = {run.store.previews(record.content) for record in records} | {
        run.store.shifted_previews(record) for record in records
    }
    with written_whole(path) as file, ZipFile(file, "w") as archive:
        _add(archive, MANIFEST, manifest.encode())
        if (latencies := run.path / LATENCIES).is_file() and not why_unread(run):
            _add(archive, LATENCIES, latencies)
        for name, cell in sorted(cells.items()):
            _add_cell(archive, f"{OWN_STORE}/{name}", cell, models, maps, pictures)
        for source in sorted(previews):
            if pictures and source.is_file():
                _add(archive, f"{OWN_STORE}/previews/{source.name}", source)


def _add_cell(archive: ZipFile, name: str, cell: CellResult, models: bool, maps: bool, pictures: bool) -> None:
    """Add a cell whose record names the files that go with it, and no other."""
    arrays = cell.folder / "arrays.npz"
    files = {arrays.name: _add(archive, f"{name}/{arrays.name}", arrays if pictures else _without_pictures(arrays))}
    if models and (model := cell.folder / MODEL).is_file():
        files[MODEL] = _add(archive, f"{name}/{MODEL}", model)
    if wrong := [file for file in files if pictures and files[file] != cell.record.files.get(file, files[file])]:
        raise DamagedError(f"'{cell.folder / wrong[0]}' was changed meanwhile; run the command again.")
    for path in sorted((cell.folder / "maps").rglob("*")) if maps else []:
        if path.is_file():
            _add(archive, f"{name}/{path.relative_to(cell.folder).as_posix()}", path)
    _add(archive, f"{name}/cell.json", to_json(cell.record.model_copy(update={"files": files}).model_dump()).encode())


def _add(archive: ZipFile, name: str, content: Path | bytes) -> int:
    """Add a file, without its time, and return its size."""
    entry = ZipInfo(name)
    entry.compress_type = ZIP_STORED if name.endswith(".npz") else ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    entry.file_size = len(content) if isinstance(content, bytes) else content.stat().st_size
    with BytesIO(content) if isinstance(content, bytes) else content.open("rb") as source, archive.open(entry, "w") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    return entry.file_size


def _without_pictures(arrays: Path) -> bytes:
    """Return the arrays of a cell but those that are pictures."""
    content = BytesIO()
    try:
        with ZipFile(arrays) as source, ZipFile(content, "w") as target:
            for entry in source.infolist():
                if not entry.filename.startswith(_PICTURES):
                    target.writestr(ZipInfo(entry.filename), source.read(entry), ZIP_DEFLATED)
    except (BadZipFile, zlib.error) as error:
        raise DamagedError(f"Expected the arrays of a cell in '{arrays}', but they cannot be read ({error}); delete it.") from error
    return content.getvalue()


def is_packed(path: Path) -> bool:
    """Return whether a file is a packed run."""
    try:
        with _opened(path):
            return True
    except UsageError:
        return False


def unpack(path: Path, folder: Path) -> None:
    """Unpack a run into a new folder that holds its cells; one that holds the same already stays as it is.

    Raises
    ------
    UsageError
        If the file is no whole packed run, or the folder holds something else.
    """
    with _opened(path) as (archive, _):
        if folder.is_dir() and any(folder.iterdir()):
            if not all(_is_there(entry, folder) for entry in archive.infolist()):
                raise UsageError(
                    f"Expected a new folder to unpack '{path}' into, but '{folder}' holds another run or more; give --out DIR."
                )
            return
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"Expected a new folder to unpack '{path}' into, but '{folder}' is a file; give --out DIR.")
        temporary = folder.absolute().with_name(f".tmp-unpack-{uuid.uuid4().hex}")
        try:
            _extract(archive, temporary)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _is_there(entry: ZipInfo, folder: Path) -> bool:
    """Return whether a file of an archive lies in a folder as it is."""
    path = folder / entry.filename
    return path.is_file() and path.stat().st_size == entry.file_size and zlib.crc32(path.read_bytes()) == entry.CRC


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[ZipFile, Run]]:
    """Give a packed run to read, and how it was asked for.

    Raises
    ------
    UsageError
        If it is none, or turns out to be damaged.
    """
    try:
        with ZipFile(path) as archive:
            names = archive.namelist()
            if MANIFEST not in names:  # what is cut within a cell ends as a zip: of its arrays
                raise UsageError(f"Expected a run that `pack` wrote in '{path}', but it is a zip of something else, or cut short.")
            if wrong := [name for name in names if not _is_inside(name)] or (names if len(set(names)) < len(names) else []):
                raise UsageError(f"'{path}' is refused: `pack` writes no such file name, or not twice: {wrong[0]!r}.")
            yield archive, Run.read(path, archive.read(MANIFEST))
    except (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:  # the last two: odd or locked entries
        raise UsageError(
            f"Expected a run that `pack` wrote in '{path}', but it is no zip, or not whole ({error}); copy or pack it again."
        ) from error


def _is_inside(name: str) -> bool:
    """Return whether a name of a file may be in a packed run: one in a run's folder, or below the store."""
    parts = name.split("/")
    plain = "\\" not in name and not any(part in ("", ".", "..") for part in parts)
    return name in (MANIFEST, LATENCIES) or (plain and parts[0] == OWN_STORE and len(parts) > 2)


def _extract(archive: ZipFile, folder: Path, maps: bool = True) -> None:
    """Write the files of an archive into a folder, but for whole maps where they are not wanted."""
    for entry in archive.infolist():
        path = folder / entry.filename
        if not maps and "maps" in PurePosixPath(entry.filename).parts[2:-1]:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with naming(path), archive.open(entry) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
