"""Settings of the whole test run."""

import torch

# The tensors of tests are small: threads would wait for one another more than they work.
torch.set_num_threads(1)
