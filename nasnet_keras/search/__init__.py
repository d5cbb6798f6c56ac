"""The searching half: what may be chosen, who chooses, and the KerasTuner oracle and tuner that carry it out.

It knows networks only in `tuner` and what stands above it; everything else works on a
`Genotype` and a number, its reward.
"""
