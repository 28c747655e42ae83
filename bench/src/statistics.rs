//! Medians and ratios over the rounds.

use crate::table::grouped;

/// Several measurements of one thing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

impl Summary {
    /// The summary of these values; `None` of none. The median of an even number is the mean of the two in the middle.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let (below, above) = (values.get((values.len() - 1) / 2)?, values.get(values.len() / 2)?);
        Some(Self { least, median: f64::midpoint(*below, *above), most })
    }

    /// The summary of the ratios of values that belong together.
    pub(crate) fn of_ratios(pairs: impl IntoIterator<Item = (f64, f64)>) -> Option<Self> {
        Self::of(pairs.into_iter().map(|(value, reference)| value / reference))
    }
}

/// `median (least–most)`, with so many digits after the point.
pub(crate) fn shown(summary: Option<Summary>, digits: usize) -> String {
    let number = |value: f64| match digits {
        0 => grouped(value.round() as u64),
        _ => format!("{value:.digits$}"),
    };
    summary.map_or_else(String::new, |it| format!("{} ({}–{})", number(it.median), number(it.least), number(it.most)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert_eq!(Summary::of([9.0, 1.0, 2.0]), Some(Summary { least: 1.0, median: 2.0, most: 9.0 }));
        assert_eq!(Summary::of([4.0, 1.0, 9.0, 2.0]), Some(Summary { least: 1.0, median: 3.0, most: 9.0 }));
        assert_eq!(Summary::of([5.0]), Some(Summary { least: 5.0, median: 5.0, most: 5.0 }));
        assert_eq!(Summary::of([]), None);
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The second round ran on a machine half as fast: that changes no ratio.
        let ratios = Summary::of_ratios([(50.0, 100.0), (25.0, 50.0)]);
        assert_eq!(ratios, Some(Summary { least: 0.5, median: 0.5, most: 0.5 }));
    }
}
