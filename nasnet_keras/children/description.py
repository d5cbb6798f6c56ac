"""How the children of a search are built and trained, as a value."""

from dataclasses import dataclass

from nasnet_keras.checks import check_integer, check_one_of
from nasnet_keras.children.scores import SCORES
from nasnet_keras.program.architecture import STEMS, Architecture
from nasnet_keras.training import recipes

EVALUATIONS = ("independent", "shared")


@dataclass(frozen=True)
class ChildDescription:
    """How a child is built and trained, as a value: the same for every child of a search.

    Args:
        repeats, …, screen_share: as for `children.ChildSettings`.

    Raises:
        ValueError: naming the argument at fault.
    """

    repeats: int | tuple[int, ...] = 1
    filters: int = 8
    epochs: int = 1
    recipe: str = "micro"
    batch_size: int | None = None
    stem: str = "cifar"
    evaluation: str = "independent"
    shared_steps: int = 10
    screen: str | None = None
    screen_share: float = 0.3

    def __post_init__(self):
        stacks = self.repeats if isinstance(self.repeats, tuple) else (self.repeats,)
        numbers = {
            "filters": self.filters,
            "epochs": self.epochs,
            "shared_steps": self.shared_steps,
            "batch_size": 1 if self.batch_size is None else self.batch_size,
        }
        for name, value in (*numbers.items(), *(("repeats", count) for count in stacks)):
            check_integer(name, value, least=1)
        check_one_of("recipe", self.recipe, recipes.RECIPES)
        check_one_of("stem", self.stem, STEMS)
        check_one_of("evaluation", self.evaluation, EVALUATIONS)
        check_one_of("screen", self.screen, SCORES, optional=True)
        if not 0 <= self.screen_share <= 1:
            raise ValueError(f"`screen_share` must be a share from 0 to 1. Received: {self.screen_share!r}")
        if (self.evaluation == "shared" or self.screen) and not self.training_recipe().is_plain:
            raise ValueError(
                "`evaluation='shared'` and `screen` need children of the recipes with plain gradient descent. "
                f"Received: `recipe` {self.recipe!r}"
            )

    def architecture(self, genotype, data):
        """The `Architecture` of a genotype's child for images of this data."""
        return Architecture(
            genotype,
            repeats=self.repeats,
            filters=self.filters,
            stem=self.stem,
            input_shape=data.image_shape,
            classes=len(data.class_names),
            class_names=data.class_names,
        )

    def training_recipe(self):
        """The `recipes.Recipe` with this batch size."""
        return recipes.recipe(self.recipe, batch_size=self.batch_size)
