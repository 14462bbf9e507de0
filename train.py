"""Fine-tune Segment Anything: ``python train.py [overrides]``; ``--help`` lists them."""

from sam_train.cli.train import main

main()
