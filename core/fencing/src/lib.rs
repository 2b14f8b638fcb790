//! Who must be fenced and by what proof; the only maker of `Fenced`.
