"""Genotype to child network to reward: how a search judges one architecture."""

import gc
from dataclasses import dataclass

import keras
import numpy as np

from nasnet_keras.children.description import ChildDescription
from nasnet_keras.children.screening import check
from nasnet_keras.children.start import knows, start_child
from nasnet_keras.children.threads import use_one_thread
from nasnet_keras.data.loading import normalize
from nasnet_keras.models.network import NASNet, multiply_adds
from nasnet_keras.program.plan import plan
from nasnet_keras.training import fitting as training


@dataclass(frozen=True)
class ChildSettings(ChildDescription):
    """How a child is built and trained, the same for every child of a search; and the means to do it.

    Args:
        repeats: Normal cells a stack, or a tuple with one number for each stack.
        filters: F of the first stack.
        epochs: epochs that a child trains for.
        recipe: a name from `recipes.RECIPES`.
        batch_size: images a step, None for the recipe's.
        stem: `"cifar"` or `"imagenet"`.
        evaluation: `"independent"`, each child trains from its own weights; or `"shared"`, from those that all children
            have in common, see `shared.SharedEvaluation`.
        shared_steps: steps that a child with shared weights trains for, instead of `epochs`.
        screen: None, or a name from `scores.SCORES`: children with a low score are not trained, see `screen.check`.
        screen_share: share of random cells that a child has to beat.

    Raises:
        ValueError: naming the argument at fault.
    """

    def __post_init__(self):
        super().__post_init__()
        if (self.evaluation == "shared" or self.screen) and not self.is_interpreted():
            raise ValueError("`evaluation='shared'` and `screen` need Keras on TensorFlow or JAX")

    def build(self, genotype, data, seed):
        """The untrained network of a genotype for images of this data, its weights drawn from `seed`."""
        keras.utils.set_random_seed(seed)
        return NASNet(
            genotype,
            repeats=self.repeats,
            filters=self.filters,
            stem=self.stem,
            input_shape=data.image_shape,
            classes=len(data.class_names),
            class_names=data.class_names,
            dtype="float32",
        )

    def sizes(self, genotype, data):
        """`parameters` and `multiply_adds` of a child, without making it."""
        program = plan(
            genotype,
            repeats=self.repeats,
            filters=self.filters,
            stem=self.stem,
            input_shape=data.image_shape,
            classes=len(data.class_names),
        )
        return _sizes(program, data)

    def evaluate(self, genotype, data, seed, on_epoch=None):
        """Train a child and judge it.

        Args:
            genotype: a `Genotype`.
            data: a `Data`; `train` is learnt from and `validation` gives the reward.
            seed: seed of the weights and of the order of the images.
            on_epoch: called after every epoch with its number, from 1, and the accuracy on the validation images;
                true ends the training here.

        Returns:
            `{"reward": float, "parameters": int, "multiply_adds": int}`.

        Raises:
            FloatingPointError: the loss or the reward is not finite.
            screen.ScreenedOut: the child is not worth training.
        """
        if not self.is_interpreted():
            return self._compiled(genotype, data, seed, on_epoch)
        if self.screen:
            check(self, genotype, data, seed)
        watch = on_epoch and (lambda child, epoch: on_epoch(epoch, accuracy(child, data.validation)))
        child = self.train_interpreted(genotype, data, seed, self.epochs, watch=watch)
        return {"reward": training.reward(accuracy(child, data.validation)), **sizes(child, data)}

    def is_interpreted(self):
        """Whether these children train as a `turnaround.Child`: at once, and with the same result every time.

        It knows plain gradient descent only; what a recipe wants beyond that needs the ordinary network.
        """
        return knows(self.training_recipe())

    def steps(self, data, epochs):
        """Steps of a training."""
        return epochs * max(1, len(data.train) // self.training_recipe().batch_size)

    def train_interpreted(self, genotype, data, seed, epochs, callback=None, watch=None):
        """Train a `turnaround.Child`; `callback` is a Keras callback whose hooks are called.

        `watch(child, epoch)` is called after every epoch, counted from 1; true ends the training.

        Returns:
            The trained `Child`.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        callback = callback or keras.callbacks.Callback()
        batches = self.batches(data, seed)
        child = self.start(genotype, data, seed, len(batches) * epochs)
        callback.set_params({"steps": len(batches), "epochs": epochs})
        callback.on_train_begin()
        for epoch in range(epochs):
            batches.epoch = epoch
            callback.on_epoch_begin(epoch)
            for index in range(len(batches)):
                loss = child.train_step(*batches[index])
                callback.on_train_batch_end(index)
            training.check_loss(float(loss), epoch)
            callback.on_epoch_end(epoch)
            if watch and watch(child, epoch + 1):
                break
        return child

    def batches(self, data, seed):
        """The training images as batches; each depends on nothing but the seed, the epoch and its number."""
        return training.training_batches(data, self.training_recipe(), seed)

    def start(self, genotype, data, seed, steps):
        """An untrained `child.BaseChild` for a training of so many steps; None for one at a constant rate."""
        return start_child(
            genotype,
            self.training_recipe(),
            steps,
            seed=seed,
            repeats=self.repeats,
            filters=self.filters,
            stem=self.stem,
            input_shape=data.image_shape,
            classes=len(data.class_names),
        )

    def _compiled(self, genotype, data, seed, on_epoch):
        recipe = self.training_recipe()
        if keras.backend.backend() == "tensorflow":
            use_one_thread()
        try:
            model = self.build(genotype, data, seed)
            callbacks = [_Watch(data, on_epoch)] if on_epoch else []
            training.fit(model, data, recipe, epochs=self.epochs, seed=seed, validate=False, callbacks=callbacks)
            return {
                "reward": training.reward(training.evaluate(model, data.validation)["accuracy"]),
                "parameters": model.count_params(),
                "multiply_adds": multiply_adds(model),
            }
        finally:
            model = None
            keras.utils.clear_session()
            gc.collect()


def accuracy(child, split):
    """Share of a split's images that a trained `turnaround.Child` classifies right."""
    return child.evaluate(normalize(split.images[:]), split.labels)


def sizes(child, data):
    """`parameters` and `multiply_adds` of a `turnaround.Child`."""
    return _sizes(child.program, data)


def _sizes(program, data):
    return {
        "parameters": sum(weight.size for weight in program.weights),
        "multiply_adds": program.multiply_adds(data.image_shape[:2]),
    }


class _Watch(keras.callbacks.Callback):
    """Measures a compiled child after every epoch, and ends its training when told to."""

    def __init__(self, data, on_epoch):
        super().__init__()
        self.data, self.tell = data, on_epoch

    def on_epoch_end(self, epoch, logs=None):
        if self.tell(epoch + 1, training.evaluate(self.model, self.data.validation)["accuracy"]):
            self.model.stop_training = True


def child_seed(seed, trial_id):
    """The seed of a trial's child, from the search's seed and the trial's id."""
    text = f"{seed}/{trial_id}".encode()
    return int(np.random.SeedSequence(list(text)).generate_state(1)[0] >> 1)
