"""Objectives of the policy: what a step's or a sequence's probability ratio is worth. All behind `Objective`."""
