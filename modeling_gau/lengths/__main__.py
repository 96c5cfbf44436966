from ..runs.command_line import run_program
from .measuring import main


run_program(main)
