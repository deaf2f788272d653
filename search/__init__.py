"""Budget, searchers, engines, the run store, the result and its report."""
