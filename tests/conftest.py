"""Settings of the whole test run."""

import signal

import torch

# The tensors of tests are small: threads would wait for one another more than they work.
torch.set_num_threads(1)

# Started in the background we ignore Ctrl-C, and so would children that tests send it to.
signal.signal(signal.SIGINT, signal.default_int_handler)
