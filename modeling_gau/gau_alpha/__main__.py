from ..runs.command_line import run_program
from .convert import main


run_program(main)
