"""A module that stands in for another one and can be exchanged for it again."""

from __future__ import annotations

from typing import Any

from torch import nn


class Replacement(nn.Module):
    """Computes what ``original`` computes, in another way; the two share parameters and children.

    The original is kept out of the module tree, so no name of a parameter changes. Merging puts it back.
    """

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        # In a tuple, or torch would register it as a child.
        self._original: tuple[Any] = (original,)
        self.training = original.training

    @property
    def original(self) -> Any:
        """The module this one stands for."""
        return self._original[0]

    def share(self, *, without: tuple[str, ...] = ()) -> None:
        """Register the original's own parameters and children under their names, except those named."""
        for name, parameter in self.original.named_parameters(recurse=False):
            if name not in without:
                self.register_parameter(name, parameter)
        for name, child in self.original.named_children():
            if name not in without:
                self.add_module(name, child)

    def restored(self) -> nn.Module:
        """Return the original as an ordinary module again, with everything this one has learned."""
        for name, child in self.named_children():
            if name in dict(self.original.named_children()):
                setattr(self.original, name, child)
        return self.original.train(self.training)


def set_submodule(root: nn.Module, name: str, module: nn.Module) -> None:
    """Put ``module`` at the dotted ``name`` under ``root``."""
    parent, _, child = name.rpartition(".")
    setattr(root.get_submodule(parent) if parent else root, child, module)
