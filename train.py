"""Fine-tune Segment Anything: ``python train.py [overrides]``; ``--help`` lists them."""

from sam_train.cli.train import main

if __name__ == "__main__":  # loader workers of some systems import this file
    main()
