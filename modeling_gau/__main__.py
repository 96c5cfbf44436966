# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
"""Lists the tools of this package that can be run."""

TOOLS = {
    "modeling_gau.lengths": "measure a checkpoint at other lengths than its own",
    "modeling_gau.lengths.figures": "draw figures from those measurements",
    "modeling_gau.lengths.compare": "compare normalizations and relative positions on a text of your own",
    "modeling_gau.lengths.study": "the same from a study file: trainings, lengths, fine-tuning",
    "modeling_gau.lengths.study_report": "make tables and figures of such a study",
    "modeling_gau.gau_alpha": "convert GAU-alpha checkpoints to this package's format, or back",
    "modeling_gau.export": "export a checkpoint to ONNX or torch.export, in float32 or int8",
}


def main() -> None:
    width = max(map(len, TOOLS))
    print("Each tool explains itself with --help:\n")
    for name, purpose in TOOLS.items():
        print(f"  python -m {name:<{width}}  {purpose}")
    print("\nPretraining and fine-tuning: run_pretrain.py and run_glue.py in a clone of the repository.")


if __name__ == "__main__":
    main()
