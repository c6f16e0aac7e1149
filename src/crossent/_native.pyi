"""
The native core: what it was built with and what this processor can run.
"""



def build_info() -> dict[str, str]:
    """
    Version, compiler, flags and nanobind mode that this module was built with.
    """

def supported_instruction_sets() -> list[str]:
    """Instruction sets that this processor runs, least first."""

def chosen_instruction_set() -> str:
    """
    The best supported instruction set, capped by the variable CROSSENT_MAX_ISA.

    Raises ValueError when the variable names no instruction set.
    """
