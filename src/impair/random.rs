//! Draws that are a function of what they are for.
//!
//! A generator with a state would hand out numbers in order of arrival. Here a draw is asked for by
//! its number, so it does not depend on that order.

use super::percent::Percent;

/// 2⁶⁴ divided by the golden ratio, odd.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Independent numbers, each with its place: splitmix64 (Steele, Lea and Flood 2014, "Fast
/// splittable pseudorandom number generators") asked for its n-th output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draws {
    key: u64,
}

impl Draws {
    /// Of a seed, of one use of it, and of one of many there (a flow, a connection).
    pub(super) fn new(seed: u64, usage: u64, number: u64) -> Self {
        let key = mix(seed.wrapping_add(GOLDEN));
        let key = mix(key ^ usage.wrapping_add(1).wrapping_mul(GOLDEN));
        let key = mix(key ^ number.wrapping_add(1).wrapping_mul(GOLDEN));
        Self { key }
    }

    /// The draw with this number: 64 bits.
    pub(super) fn wide(self, number: u64) -> u64 {
        mix(self.key.wrapping_add(number.wrapping_mul(GOLDEN)))
    }

    /// The draw with this number: 32 bits, as the kernel's draws are.
    pub(super) fn draw(self, number: u64) -> u32 {
        (self.wide(number) >> 32) as u32
    }

    /// The draw with this number, evenly below `end` (0 for an `end` of 0).
    pub(super) fn below(self, number: u64, end: u64) -> u64 {
        // Lemire 2019 without the rejection: off by 2⁻³² for whatever is a length here.
        ((u128::from(self.wide(number)) * u128::from(end)) >> 64) as u64
    }
}

/// splitmix64's output function.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// A draw of which `correlation` is the one `last` time, as get_crandom() in sch_netem.c mixes
/// them.
pub(super) fn correlated(draw: u32, last: &mut u32, correlation: Percent) -> u32 {
    if correlation == Percent::NEVER {
        return draw;
    }
    let rho = u64::from(correlation.steps()) + 1;
    let mixed = (u64::from(draw) * ((1 << 32) - rho) + u64::from(*last) * rho) >> 32;
    // Less than 2³²: a mean of two such numbers.
    *last = mixed as u32;
    *last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_is_a_function_of_all_that_it_is_for() {
        let draw = |seed, usage, number, index| Draws::new(seed, usage, number).wide(index);
        assert_eq!(draw(1, 2, 3, 4), draw(1, 2, 3, 4));
        let all = [
            draw(1, 2, 3, 4),
            draw(0, 2, 3, 4),
            draw(1, 0, 3, 4),
            draw(1, 2, 0, 4),
            draw(1, 2, 3, 0),
            draw(2, 1, 3, 4),
            draw(1, 3, 2, 4),
        ];
        for (place, one) in all.iter().enumerate() {
            assert!(!all[..place].contains(one), "{place}");
        }
    }

    #[test]
    fn draws_are_even_within_and_across_flows() {
        // Bits of neighbours, counted: each within 4 standard errors of a half.
        let tries = 20_000u32;
        let error = 4.0 * (0.25f64 / f64::from(tries)).sqrt();
        for shift in 0..64 {
            let within =
                (0..tries).filter(|&n| Draws::new(7, 1, 0).wide(n.into()) >> shift & 1 == 1);
            let across =
                (0..tries).filter(|&n| Draws::new(7, 1, n.into()).wide(0) >> shift & 1 == 1);
            for ones in [within.count(), across.count()] {
                let rate = ones as f64 / f64::from(tries);
                assert!((rate - 0.5).abs() < error, "bit {shift}: {rate}");
            }
        }
        assert!((0..1000).all(|n| Draws::new(7, 1, 0).below(n, 3) < 3));
        assert_eq!(Draws::new(7, 1, 0).below(0, 0), 0);
    }

    #[test]
    fn what_is_wholly_correlated_stays() {
        let mut last = 5;
        assert_eq!(correlated(9, &mut last, Percent::NEVER), 9);
        assert_eq!(correlated(9, &mut last, Percent::ALWAYS), 5);
        assert_eq!(correlated(u32::MAX, &mut last, Percent::ALWAYS), 5);
        last = u32::MAX;
        assert!(correlated(u32::MAX, &mut last, Percent::new(50.0).unwrap()) > u32::MAX - 2);
    }
}
