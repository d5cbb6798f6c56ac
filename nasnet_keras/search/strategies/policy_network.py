"""The controller's network: a one-layer LSTM that writes an architecture decision by decision.

Each decision has a softmax of its own, fed from the LSTM's output; the choice taken
is embedded and becomes the LSTM's next input. The embeddings belong to the kind of
decision, because an operation means the same wherever it stands, while the softmaxes
belong to the place, because what should be chosen depends on it: a shared softmax
would first have to learn to count its position. The softmaxes are stored as one
padded array with a mask, since the number of inputs grows from block to block.

Written in NumPy with its own backpropagation through time, for the reasons that
`policy_gradient` gives. All numbers are float64, so that a restored search repeats
the original bit by bit on the same machine. All parameters lie in one vector, so
that the optimiser and the files need not know them apart. The four gates are the
first axis of their arrays, and sums over time are taken step by step: each matrix
product is then too small for the BLAS library to spread over threads, which costs a
hundredfold where training keeps the cores busy.

Shapes: N architectures, T decisions, C choices at most, H hidden units, E embedding size.
"""

import numpy as np

from nasnet_keras.search.strategies.policy_gradient import masked_log_softmax


class PolicyNetwork:
    """The LSTM policy as functions of a parameter vector; it holds no parameters itself.

    Args:
        decisions: `Decision`s, as `SearchSpace.decisions` lists them.
        hidden_units: H.
        embedding_size: E.
    """

    def __init__(self, decisions, hidden_units, embedding_size):
        counts = np.array([len(decision.choices) for decision in decisions])
        self.hidden_units = hidden_units
        self.mask = np.arange(counts.max()) < counts[:, None]  # [T, C]
        # The rows of the embedding table: the start, then the choices of each kind.
        kinds = [decision.kind for decision in decisions]
        largest = {
            kind: max(n for n, k in zip(counts, kinds, strict=True) if k == kind) for kind in dict.fromkeys(kinds)
        }
        first_row = dict(zip(largest, 1 + np.cumsum([0, *largest.values()]), strict=False))
        self._first_rows = np.array([first_row[kind] for kind in kinds])
        rows = 1 + sum(largest.values())
        self.shapes = {
            "embedding": (rows, embedding_size),
            "input_kernel": (4, embedding_size, hidden_units),
            "recurrent_kernel": (4, hidden_units, hidden_units),
            "bias": (4, 1, hidden_units),
            "softmax_kernel": (len(counts), hidden_units, self.mask.shape[1]),
            "softmax_bias": self.mask.shape,
        }
        self.size = sum(int(np.prod(shape)) for shape in self.shapes.values())

    def initial_parameters(self, rng, limit):
        """A parameter vector drawn uniformly from [-limit, limit]."""
        return rng.uniform(-limit, limit, self.size)

    def unpack(self, vector):
        """The named arrays of a parameter vector, as views."""
        arrays, start = {}, 0
        for name, shape in self.shapes.items():
            stop = start + int(np.prod(shape))
            arrays[name] = vector[start:stop].reshape(shape)
            start = stop
        return arrays

    def sample(self, vector, rng):
        """Draw one architecture from the policy.

        Args:
            vector: the parameters.
            rng: a `numpy.random.Generator`, of which T uniform numbers are used.

        Returns:
            The choices (T integers) and the log-probability of each (T floats), as tuples.
        """
        p = self.unpack(vector)
        table = p["embedding"] @ p["input_kernel"] + p["bias"]  # [4, rows, H]: what each choice gives the gates
        state, memory = np.zeros((2, 1, self.hidden_units))
        row, actions, logs = 0, [], []  # row 0 of the table: nothing chosen yet
        for step, uniform in enumerate(rng.random(len(self.mask))):
            state, memory, _ = self._cell(table[:, row, None] + state @ p["recurrent_kernel"], memory)
            logits = (state @ p["softmax_kernel"][step] + p["softmax_bias"][step])[0]
            log = masked_log_softmax(logits, self.mask[step])
            cumulative = np.cumsum(np.exp(log[self.mask[step]]))
            action = int(np.searchsorted(cumulative[:-1], uniform * cumulative[-1], side="right"))
            actions.append(action)
            logs.append(float(log[action]))
            row = self._first_rows[step] + action
        return tuple(actions), tuple(logs)

    def forward(self, vector, actions):
        """The logits of every decision, given the decisions before it.

        Args:
            vector: the parameters.
            actions: integers [N, T].

        Returns:
            Logits [N, T, C] and what `backward` needs.
        """
        p = self.unpack(vector)
        rows = np.zeros(actions.T.shape, dtype=int)
        rows[1:] = (actions + self._first_rows).T[:-1]
        table = p["embedding"] @ p["input_kernel"] + p["bias"]
        states = np.zeros((len(rows) + 1, rows.shape[1], self.hidden_units))
        memories = np.zeros_like(states)
        gates = np.empty((len(rows), 4, *states.shape[1:]))
        for step, chosen in enumerate(rows):
            z = table[:, chosen] + states[step] @ p["recurrent_kernel"]
            states[step + 1], memories[step + 1], gates[step] = self._cell(z, memories[step])
        logits = states[1:] @ p["softmax_kernel"] + p["softmax_bias"][:, None]
        return logits.swapaxes(0, 1), (rows, states, memories, gates)

    def backward(self, vector, kept, gradient):
        """Gradient of a loss with respect to the parameters.

        Args:
            vector: the parameters.
            kept: what `forward` returned beside the logits.
            gradient: the loss's gradient with respect to the logits [N, T, C].

        Returns:
            A vector like `vector`.
        """
        rows, states, memories, gates = kept
        p = self.unpack(vector)
        gradient = gradient.swapaxes(0, 1)
        from_softmax = gradient @ p["softmax_kernel"].swapaxes(1, 2)  # [T, N, H]
        recurrent_transposed = p["recurrent_kernel"].swapaxes(1, 2)
        result = np.zeros_like(vector)
        out = self.unpack(result)
        table = np.zeros((4, len(p["embedding"]), self.hidden_units))
        one_hot = (rows[:, None] == np.arange(table.shape[1])[:, None]).astype(float)  # [T, rows, N]
        d_z = np.empty_like(gates[0])
        d_state, d_memory = np.zeros((2, *states.shape[1:]))
        for step in reversed(range(len(rows))):
            d_state = d_state + from_softmax[step]
            enter, keep, leave, candidate = gates[step]
            squashed = np.tanh(memories[step + 1])
            d_memory = d_memory + d_state * leave * (1 - squashed**2)
            d_z[0] = d_memory * candidate * enter * (1 - enter)
            d_z[1] = d_memory * memories[step] * keep * (1 - keep)
            d_z[2] = d_state * squashed * leave * (1 - leave)
            d_z[3] = d_memory * enter * (1 - candidate**2)
            d_state = (d_z @ recurrent_transposed).sum(axis=0)
            d_memory = d_memory * keep
            out["recurrent_kernel"] += states[step].T @ d_z
            table += one_hot[step] @ d_z
        out["embedding"][:] = (table @ p["input_kernel"].swapaxes(1, 2)).sum(axis=0)
        out["input_kernel"][:] = p["embedding"].T @ table
        out["bias"][:] = table.sum(axis=1, keepdims=True)  # each step has one row
        out["softmax_kernel"][:] = states[1:].swapaxes(1, 2) @ gradient
        out["softmax_bias"][:] = gradient.sum(axis=1)
        return result

    @staticmethod
    def _cell(z, memory):
        """One LSTM step.

        Args:
            z: the summed inputs of the gates [4, N, H]: enter (input), keep (forget), leave
                (output), candidate. It is overwritten.
            memory: [N, H].

        Returns:
            The new state and memory [N, H], and the gates [4, N, H].
        """
        z[:3] *= 0.5  # sigmoid(x) = (1 + tanh(x / 2)) / 2: one call for all gates, and no overflow
        gates = np.tanh(z, out=z)
        gates[:3] *= 0.5
        gates[:3] += 0.5
        memory = gates[1] * memory + gates[0] * gates[3]
        return gates[2] * np.tanh(memory), memory, gates
