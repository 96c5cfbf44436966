# Copyright 2026 The modeling_gau authors. Licensed under the Apache License, Version 2.0.
from pathlib import Path

from setuptools import find_packages, setup


# A floor is the oldest release that works as far as tried, not the newest one seen. runs/trainer.py overrides private
# methods of transformers' Trainer, so the range of transformers is what the tests have passed on.
# - torch.compiler.is_exporting came with torch 2.7. The tests have run with 2.13 only.
# - With accelerate 1.6, a run resumed after its first epoch takes other batches. With 1.7, FSDP2 fails without a GPU.
# - Dataset.from_generator takes a fingerprint since datasets 4.3. evaluate 0.4.4 fails with datasets 4.
INSTALL_REQUIRES = [
    "transformers>=5.17,<5.25",
    "torch>=2.7",
    "accelerate>=1.8.1",
    "datasets>=4.3",
    "evaluate>=0.4.5",
    "safetensors>=0.8",
]

EXTRAS = {
    "plot": ["matplotlib>=3.8", "scipy>=1.11"],
    # A bag of words beside the results of fine-tuning.
    "baselines": ["scikit-learn>=1.5"],
    "tensorboard": ["tensorboard>=2.16"],
    "trackio": ["trackio>=0.20"],
    "optimizers": ["torch-optimi>=0.3"],  # StableAdamW, through transformers
    "peft": ["peft>=0.18"],
    "sentence-transformers": ["sentence-transformers>=6.0"],
    # Words of Chinese, for whole-word masking.
    "chinese": ["rjieba>=0.1.13"],
    "onnx": ["onnx>=1.18", "onnxscript>=0.5", "onnxruntime>=1.22"],
}
# What the scripts in examples/ need beside the core.
EXTRAS["examples"] = ["seqeval>=1.2.2", *EXTRAS["peft"], *EXTRAS["sentence-transformers"]]
EXTRAS["test"] = [
    "pytest>=8.4",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.7",
    "ruff>=0.14",
    "ipykernel>=6.29",  # with nbclient, runs the notebooks
    "nbclient>=0.10",
    'triton>=3.3; platform_system == "Linux"',  # its interpreter runs the kernels without a GPU
    *EXTRAS["baselines"],
    *EXTRAS["chinese"],
    *EXTRAS["examples"],
    *EXTRAS["onnx"],
    *EXTRAS["optimizers"],
    *EXTRAS["plot"],
]
# What builds the documentation site: `make docs`.
EXTRAS["docs"] = [
    "sphinx>=8.2",
    "furo>=2025.7",
    "myst-nb>=1.3",
    "sphinx-copybutton>=0.5.2",
    "sphinxcontrib-programoutput>=0.18",
    *EXTRAS["plot"],
]
EXTRAS["all"] = sorted({requirement for extra in EXTRAS.values() for requirement in extra})

setup(
    name="modeling-gau",
    version="0.1.0",
    description="The Gated Attention Unit as a Hugging Face Transformers model, with pretraining and fine-tuning",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The modeling_gau authors",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    keywords="transformers pytorch nlp encoder gated-attention-unit masked-language-model length-generalization",
    packages=find_packages(include=["modeling_gau", "modeling_gau.*"]),
    package_data={"modeling_gau": ["py.typed"], "modeling_gau.runs": ["model_card_template.md"]},
    python_requires=">=3.11",
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS,
    zip_safe=False,
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
