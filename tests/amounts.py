"""What people type where an amount of credits belongs, and what no form may take for one."""

BAD_AMOUNTS = [
    "-5",
    "0",
    str(2**63),
    "1e9",
    "1,5",
    "NaN",
    "٣٠",
    "1.5",
    "ten",
    "",
    " ",
    "+-1",
    "0x10",
    "²",
    "1_000",
    "1" * 5000,
]
