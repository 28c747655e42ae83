//! Ratios of counts, rounded without losing anything on the way.

/// The ratio of two counts to 4 decimals; 0 where the second is 0.
pub fn rounded(numerator: u64, denominator: u64) -> f64 {
    const DECIMALS: u128 = 10_000;
    let denominator = u128::from(denominator);
    let nearest = (u128::from(numerator) * DECIMALS + denominator / 2).checked_div(denominator).unwrap_or_default();
    // The quotient of two whole numbers is the double nearest to the decimal fraction, so it is written as that fraction.
    nearest as f64 / DECIMALS as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ratios_have_four_decimals() {
        assert_eq!(rounded(1, 3).to_string(), "0.3333");
        assert_eq!(rounded(2, 3).to_string(), "0.6667");
        assert_eq!(rounded(6000, 1).to_string(), "6000");
        assert_eq!(rounded(6000, 71).to_string(), "84.507");
        assert_eq!(rounded(199_999, 100_000).to_string(), "2");
        assert_eq!(rounded(0, 7).to_string(), "0");
        assert_eq!(rounded(7, 0).to_string(), "0");
    }

    proptest! {
        #[test]
        fn a_ratio_is_off_by_at_most_half_of_the_last_decimal(numerator in 0u64..1 << 40, denominator in 1u64..1 << 30) {
            let ten_thousandths = (rounded(numerator, denominator) * 10_000.0).round() as u128;
            let exact = u128::from(numerator) * 10_000;
            let off = exact.abs_diff(ten_thousandths * u128::from(denominator));
            prop_assert!(2 * off <= u128::from(denominator));
        }
    }
}
