"""The files that a specification names, found below its root and told apart by their content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figclip_cli.ablate.spec import Spec
from figclip_cli.errors import InputError
from figclip_cli.evaluate.results import RESULTS_FORMAT_VERSION
from figclip_cli.files import require_file, sha256_of_file, sha256_of_json
from figclip_cli.frames import FramesReader
from figclip_cli.models.source import ModelSource
from figclip_cli.prompts.options import PromptOptions
from figclip_cli.prompts.store import FORMAT_VERSION as PROMPTS_VERSION
from figclip_cli.prompts.templates import TEMPLATES

if TYPE_CHECKING:
    from figclip_cli.ablate.tasks import Task

SCORING_VERSION = 1  # goes up where scoring gives other numbers of the same files


@dataclass(frozen=True)
class AblationInputs:
    """Files of a specification.

    Args:
        spec: What names them.
        root: Folder below which they are.
        models: Folders that stand for names of models.
    """

    spec: Spec
    root: Path
    models: Mapping[str, Path] = field(default_factory=dict)

    @cached_property
    def source(self) -> ModelSource:
        """The base model; a folder or file below the root where there is one of that name."""
        name, pretrained = self.spec.model, self.spec.pretrained
        if name in self.models:
            for key in ("pretrained", "activation"):
                if getattr(self.spec, key) is not None:
                    where = f"{self.spec.path}: {key} does not go with the model '{name}'"
                    raise InputError(where, f"leave {key} out: the model that is shipped has its own")
            return ModelSource(str(self.models[name]))
        local = self.root / name
        if pretrained is not None and (self.root / pretrained).is_file():
            pretrained = str(self.root / pretrained)
        return ModelSource(str(local) if local.exists() else name, pretrained, self.spec.activation)

    @cached_property
    def frames(self) -> tuple[Path, ...]:
        """Frames files that are trained on."""
        return self.below(self.spec.data.frames)

    @cached_property
    def hashes(self) -> dict[str, Any]:
        """Hashes of everything that training reads, beside the prompts, as plain JSON values."""
        data = self.spec.data
        lists = {
            name: [sha256_of_file(self.file(one, "list of clips")) for one in listed]
            for name, listed in (
                ("clips", data.clips),
                ("exclude", data.exclude),
                ("validation", (data.validation,) if data.validation else ()),
            )
        }
        return {"frames": self.frames_sha256(data.frames), "model": self._model_hash(), **lists}

    @cached_property
    def annotations(self) -> list[str]:
        """Hashes of the annotation, or of the prompts that are given."""
        data = self.spec.data
        if data.prompts is not None:
            return [sha256_of_file(self.file(data.prompts, "prompts file"))]
        return [sha256_of_file(self.file(one, "annotation")) for one in data.annotations]

    def prompts_of(self, options: PromptOptions | None) -> PromptOptions | None:
        """Return how prompts are built, with the specification's seed and a template below the root."""
        if options is None:
            return None
        template = options.template
        if template not in TEMPLATES and (self.root / template).is_file():
            template = str(self.root / template)
        return replace(options, template=template, seed=self.spec.data.prompts_seed)

    def prompts_sha256(self, options: PromptOptions | None) -> str:
        """Return a hash of all that decides the prompts: the annotation, and how they are built of it."""
        if options is None:
            return sha256_of_json(["file", self.annotations])
        template = options.template
        if template not in TEMPLATES:
            template = sha256_of_file(require_file(Path(template), "template", f"known: {', '.join(TEMPLATES)}"))
        built = [template, dict(options.negatives), options.balance, options.seed, options.on_overflow]
        return sha256_of_json(["built", PROMPTS_VERSION, self.annotations, built])

    @cached_property
    def evaluation_sha256(self) -> str:
        """Hash of everything that scoring reads, beside the models, and of how it is done."""
        versions = [RESULTS_FORMAT_VERSION, SCORING_VERSION]
        return sha256_of_json([versions, self.spec.protocol, [self._task_hashes(task) for task in self.spec.tasks]])

    @cached_property
    def trained_clips(self) -> int:
        """How many clips there are to train on, before a fraction is taken of them.

        Those whose prompts are all left out when they are built are among them.
        """
        from figclip_cli.adapt.clip_lists import read_clip_list, read_clip_lists
        from figclip_cli.prompts.annotations import read_annotations
        from figclip_cli.prompts.store import read_prompts

        data = self.spec.data
        if data.prompts is not None:
            annotated = {event.clip_id for event in read_prompts(self.root / data.prompts).events}
        else:
            files = read_annotations(list(self.below(data.annotations)))
            annotated = {annotation.clip_id for annotation in files.annotations}
        with FramesReader(list(self.frames)) as reader:
            clips = annotated & set(reader.clip_ids)
        if data.clips:
            clips &= read_clip_lists(self.below(data.clips))
        clips -= read_clip_lists(self.below(data.exclude))
        return len(clips - read_clip_list(self.root / data.validation) if data.validation else clips)

    def _task_hashes(self, task: Task) -> list[Any]:
        files = [sha256_of_file(self.file(one, f"file of {task.name}")) for one in task.files]
        ids = [sha256_of_file(self.file(value, "list of clips")) for key, value in task.choices if key == "ids"]
        return [task.name, task.kind, self.frames_sha256(task.frames), files, ids, [list(one) for one in task.choices]]

    def frames_sha256(self, names: Sequence[str]) -> str:
        """Return the hash of what frames files hold."""
        with FramesReader(list(self.below(names))) as reader:
            return reader.content_sha256

    def below(self, names: Sequence[str]) -> tuple[Path, ...]:
        """Return paths below the root; patterns are left as they are."""
        return tuple(self.root / name for name in names)

    def file(self, name: str, what: str) -> Path:
        """Return a file below the root.

        Raises:
            InputError: There is none.
        """
        where = f"{self.spec.path} looks for it below {self.root.resolve()}: pass --root for another folder"
        return require_file(self.root / name, what, where)

    def _model_hash(self) -> str:
        """Return a hash of all that decides the model: enough to tell two apart before any is loaded."""
        source = self.source
        model, weights = Path(source.model), source.pretrained
        if model.is_dir():
            about: list[Any] = ["folder", _files_of(model), weights]
        elif weights is None and model.is_file():
            about = ["file", sha256_of_file(model)]
        else:
            is_file = weights is not None and Path(weights).is_file()
            kept = ["file", sha256_of_file(Path(str(weights)))] if is_file else ["tag", weights]
            about = ["name", source.model, kept]
        return sha256_of_json([*about, source.activation])


def _files_of(folder: Path) -> list[list[str]]:
    """Return names and hashes of all files of a model's folder; hidden ones are of tools that fetched it."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    named = [(path.relative_to(folder), path) for path in files]
    kept = [(name, path) for name, path in named if not any(part.startswith(".") for part in name.parts)]
    if not kept:
        raise InputError(f"the model folder {folder} holds no model", "name a folder in open_clip's format")
    return [[name.as_posix(), sha256_of_file(path)] for name, path in kept]
