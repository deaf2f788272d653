"""Weight-shared training: schedules, one trainer, calibration, evaluation."""
