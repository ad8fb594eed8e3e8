//! Impairments against their definition: 200,000 datagrams each, rates within four standard
//! errors of what the formulas of tc-netem(8) and sch_netem.c say. The seeds are fixed, so a
//! test that passes once passes always.

use super::*;

const COUNT: usize = 200_000;

/// What becomes of `COUNT` datagrams of 64 bytes, spread over so many flows.
fn run_flows(spec: &str, flows: u32) -> Vec<Fate> {
    let spec: Netem = spec.parse().unwrap();
    let mut line = Line::new(&spec.with_seed(2025), Direction::Out, None);
    let put = |number: usize| {
        let letter = Letter {
            data: vec![0; 64],
            tag: (),
        };
        let fate = line.put(number as u64 * 1_000_000_000, number as u32 % flows, letter);
        line.take_all();
        fate
    };
    (0..COUNT).map(put).collect()
}

fn run(spec: &str) -> Vec<Fate> {
    run_flows(spec, 1)
}

/// The delays of `COUNT` datagrams of one flow, in nanoseconds.
fn delays(spec: &str) -> Vec<f64> {
    let spec: Netem = spec.parse().unwrap();
    let mut line = Line::new(&spec.with_seed(2025), Direction::Out, None);
    let put = |_| {
        let letter = Letter {
            data: Vec::new(),
            tag: (),
        };
        line.put(0, 0, letter);
        let due_ns = line.next_due_ns().unwrap();
        line.take_all();
        due_ns as f64
    };
    (0..COUNT).map(put).collect()
}

fn rate(fates: &[Fate], is_counted: impl Fn(&Fate) -> bool) -> f64 {
    fates.iter().filter(|fate| is_counted(fate)).count() as f64 / fates.len() as f64
}

/// Of independent tries.
fn assert_rate(found: f64, wanted: f64, what: &str) {
    let error = (wanted * (1.0 - wanted) / COUNT as f64).sqrt();
    assert!(
        (found - wanted).abs() <= 4.0 * error,
        "{what}: {found}, not {wanted}"
    );
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn deviation(values: &[f64]) -> f64 {
    let center = mean(values);
    let squares: Vec<f64> = values
        .iter()
        .map(|value| (value - center).powi(2))
        .collect();
    mean(&squares).sqrt()
}

/// How much of a value is in the next one.
fn autocorrelation(values: &[f64]) -> f64 {
    let center = mean(values);
    let products: Vec<f64> = values
        .windows(2)
        .map(|pair| (pair[0] - center) * (pair[1] - center))
        .collect();
    mean(&products) / deviation(values).powi(2)
}

/// The standard error of the mean of values that depend on those near them: from the means
/// of 200 batches.
fn error_of_mean(values: &[f64]) -> f64 {
    let batches: Vec<f64> = values.chunks(values.len() / 200).map(mean).collect();
    deviation(&batches) / (batches.len() as f64).sqrt()
}

fn flags(fates: &[Fate], is_counted: impl Fn(&Fate) -> bool) -> Vec<f64> {
    fates
        .iter()
        .map(|fate| f64::from(is_counted(fate)))
        .collect()
}

/// How long the runs of ones are.
fn runs(flags: &[f64]) -> Vec<f64> {
    flags
        .chunk_by(|one, next| one == next)
        .filter(|run| run[0] == 1.0)
        .map(|run| run.len() as f64)
        .collect()
}

#[test]
fn chances_come_true_as_often_as_they_say() {
    for (percent, flows) in [(0.1, 1), (10.0, 1), (10.0, 1000)] {
        let wanted = percent / 100.0;
        for (what, is_counted) in [
            ("loss", (|fate| fate.lost) as fn(&Fate) -> bool),
            ("corrupt", |fate| fate.corrupted),
            ("truncate", |fate| fate.truncated),
            ("duplicate", |fate| fate.duplicates == 1),
            ("delay 1ms reorder", |fate| fate.reordered),
        ] {
            let fates = run_flows(&format!("{what} {percent}%"), flows);
            assert_rate(rate(&fates, is_counted), wanted, what);
        }
    }
}

#[test]
fn chances_do_not_depend_on_each_other_or_on_the_one_before() {
    let fates = run("loss 20% corrupt 30% delay 1ms reorder 40%");
    let rest: Vec<Fate> = fates.iter().filter(|fate| !fate.lost).copied().collect();
    let both = rate(&rest, |fate| fate.corrupted && fate.reordered);
    let error = (0.12 * 0.88 / rest.len() as f64).sqrt();
    assert!((both - 0.12).abs() <= 4.0 * error, "{both}");
    let lost = flags(&fates, |fate| fate.lost);
    // The standard error of a correlation of none is 1/√n.
    assert!(autocorrelation(&lost).abs() <= 4.0 / (COUNT as f64).sqrt());
}

#[test]
fn duplicates_take_losses_back_as_in_the_kernel() {
    let fates = run("loss 20% duplicate 30%");
    assert_rate(rate(&fates, |fate| fate.lost), 0.2 * 0.7, "loss");
    // Duplicated, not lost, and the duplicate not lost either.
    assert_rate(
        rate(&fates, |fate| fate.duplicates == 1),
        0.3 * 0.8 * 0.8,
        "duplicate",
    );
}

#[test]
fn correlated_delays_are_as_correlated_as_the_formula_says() {
    // xₙ = (1 − ρ)u + ρxₙ₋₁: the correlation is ρ, and the variance (1 − ρ)/(1 + ρ) of u's.
    for rho in [0.25, 0.5, 0.9] {
        let found = delays(&format!("delay 100ms 10ms {}%", rho * 100.0));
        let correlation = autocorrelation(&found);
        let error = ((1.0 - rho * rho) / COUNT as f64).sqrt();
        assert!(
            (correlation - rho).abs() <= 4.0 * error,
            "{correlation}, not {rho}"
        );
        assert!((mean(&found) - 100e6).abs() <= 4.0 * error_of_mean(&found));
        let wanted = 10e6 / 3f64.sqrt() * ((1.0 - rho) / (1.0 + rho)).sqrt();
        assert!((deviation(&found) / wanted - 1.0).abs() < 0.03, "{rho}");
    }
    // Through a table too.
    let found = delays("delay 100ms 10ms 50% distribution normal");
    assert!((autocorrelation(&found) - 0.5).abs() < 0.02);
}

/// How often x < `below` where x = (1 − ρ)u + ρx, by iteration on a grid.
fn stationary(rho: f64, below: f64) -> f64 {
    const STEPS: usize = 2000;
    // The distribution function at i/STEPS; F(x) = ∫ F((x − (1 − ρ)u)/ρ) du.
    let mut distribution: Vec<f64> = (0..=STEPS).map(|step| step as f64 / STEPS as f64).collect();
    let mut sums = vec![0.0; STEPS + 1];
    for _ in 0..30 {
        for step in 1..=STEPS {
            let both = distribution[step - 1] + distribution[step];
            sums[step] = sums[step - 1] + both / 2.0 / STEPS as f64;
        }
        // ∫ F up to x, where F is 0 below 0 and 1 above 1.
        let integral = |x: f64| match x {
            x if x <= 0.0 => 0.0,
            x if x >= 1.0 => sums[STEPS] + x - 1.0,
            x => sums[(x * STEPS as f64).round() as usize],
        };
        let next = |step: usize| {
            let x = step as f64 / STEPS as f64;
            (integral(x / rho) - integral((x - 1.0 + rho) / rho)) * rho / (1.0 - rho)
        };
        distribution = (0..=STEPS).map(next).collect();
    }
    distribution[(below * STEPS as f64).round() as usize]
}

#[test]
fn correlated_chances_come_true_as_often_as_the_formula_has_it() {
    for (rho, percent) in [(0.25, 20.0), (0.5, 30.0)] {
        let wanted = stationary(rho, percent / 100.0);
        // Draws that depend on each other lie closer to the middle: rarer than it says.
        assert!(wanted < percent / 100.0);
        for (what, is_counted) in [
            ("loss", (|fate| fate.lost) as fn(&Fate) -> bool),
            ("corrupt", |fate| fate.corrupted),
            ("duplicate", |fate| fate.duplicates == 1),
            ("delay 1ms reorder", |fate| fate.reordered),
        ] {
            let fates = run(&format!("{what} {percent}% {}%", rho * 100.0));
            let found = flags(&fates, is_counted);
            let error = error_of_mean(&found);
            let rate = mean(&found);
            // And what the grid of the wanted value leaves open.
            assert!(
                (rate - wanted).abs() <= 4.0 * error + 1e-3,
                "{what}: {rate}, not {wanted}"
            );
            assert!(autocorrelation(&found) > rho / 3.0, "{what}");
        }
    }
}

#[test]
fn gilbert_elliott_loses_in_bursts_as_long_as_the_formula_says() {
    // The simple Gilbert model: bursts are geometric with the mean 1/r, gaps with 1/p.
    let fates = run("loss gemodel 2% 25%");
    let lost = flags(&fates, |fate| fate.lost);
    let wanted = 0.02 / (0.02 + 0.25);
    assert!((mean(&lost) - wanted).abs() <= 4.0 * error_of_mean(&lost));
    let bursts = runs(&lost);
    // A geometric length with the mean 1/r has the variance (1 − r)/r².
    let spread = (0.75f64).sqrt() / 0.25;
    let error = spread / (bursts.len() as f64).sqrt();
    assert!(
        (mean(&bursts) - 4.0).abs() <= 4.0 * error,
        "{}",
        mean(&bursts)
    );
    assert!((deviation(&bursts) / spread - 1.0).abs() < 0.1);
    let gaps = runs(&flags(&fates, |fate| !fate.lost));
    let error = (0.98f64).sqrt() / 0.02 / (gaps.len() as f64).sqrt();
    assert!((mean(&gaps) - 50.0).abs() <= 4.0 * error, "{}", mean(&gaps));

    // All four: each state loses at its own rate.
    let lost = flags(&run("loss gemodel 5% 20% 70% 1%"), |fate| fate.lost);
    let bad = 0.05 / 0.25;
    let wanted = bad * 0.7 + (1.0 - bad) * 0.01;
    assert!(
        (mean(&lost) - wanted).abs() <= 4.0 * error_of_mean(&lost),
        "{}",
        mean(&lost)
    );

    // With p alone it is Bernoulli's.
    assert_rate(
        rate(&run("loss gemodel 10%"), |fate| fate.lost),
        0.1,
        "gemodel 10%",
    );
}

#[test]
fn the_four_states_are_visited_as_often_as_the_chain_says() {
    let [p13, p31, p32, p23, p14] = [0.02, 0.25, 0.1, 0.3, 0.01];
    let lost = flags(&run("loss state 2% 25% 10% 30% 1%"), |fate| fate.lost);
    // By iteration, from what netem_enqueue()'s chain does.
    let mut state = [1.0, 0.0, 0.0, 0.0];
    for _ in 0..10_000 {
        let [one, two, three, four] = state;
        state = [
            one * (1.0 - p13 - p14) + three * p31 + four,
            two * (1.0 - p23) + three * p32,
            one * p13 + two * p23 + three * (1.0 - p31 - p32),
            one * p14,
        ];
    }
    let wanted = state[2] + state[3];
    let found = mean(&lost);
    assert!(
        (found - wanted).abs() <= 4.0 * error_of_mean(&lost),
        "{found}, not {wanted}"
    );

    // Without pauses and single losses bursts last 1/p31.
    let bursts = runs(&flags(&run("loss state 1% 20%"), |fate| fate.lost));
    let error = (0.8f64).sqrt() / 0.2 / (bursts.len() as f64).sqrt();
    assert!(
        (mean(&bursts) - 5.0).abs() <= 4.0 * error,
        "{}",
        mean(&bursts)
    );
    // Single losses alone are single, and the one after is not lost: p/(1 + p) of all.
    let single = flags(&run("loss state 0% 100% 0% 100% 10%"), |fate| fate.lost);
    assert!(runs(&single).iter().all(|length| *length == 1.0));
    assert!((mean(&single) - 0.1 / 1.1).abs() <= 4.0 * error_of_mean(&single));
    assert_rate(
        rate(&run("loss state 10%"), |fate| fate.lost),
        0.1,
        "state 10%",
    );
}

#[test]
fn delays_have_the_moments_of_their_distribution() {
    // Mean and standard deviation in jitters; the Pareto ones as cut by the table
    // (distribution.rs derives them).
    for (name, wanted_mean, wanted_deviation) in [
        ("uniform", 0.0, 1.0 / 3f64.sqrt()),
        ("normal", 0.0, 1.0),
        ("pareto", -0.0329, 0.8209),
        ("paretonormal", -0.0247, 0.8349),
    ] {
        let found = delays(&format!("delay 1s 10ms distribution {name}"));
        let strays: Vec<f64> = found.iter().map(|delay| (delay - 1e9) / 10e6).collect();
        let error = deviation(&strays) / (COUNT as f64).sqrt();
        let (mean, deviation) = (mean(&strays), deviation(&strays));
        assert!(
            (mean - wanted_mean).abs() <= 4.0 * error + 1e-3,
            "{name}: {mean}"
        );
        assert!(
            (deviation / wanted_deviation - 1.0).abs() < 0.02,
            "{name}: {deviation}"
        );
    }
}

#[test]
fn gaps_hold_the_first_ones_back() {
    // After gap − 1 that are held, each overtakes with a quarter: one in gap − 1 + 4.
    let fates = run("delay 10ms reorder 25% gap 5");
    let wanted = 1.0 / 8.0;
    let reordered = flags(&fates, |fate| fate.reordered);
    assert!((mean(&reordered) - wanted).abs() <= 4.0 * error_of_mean(&reordered));
    let between = runs(&flags(&fates, |fate| !fate.reordered));
    assert!(between.iter().all(|length| *length >= 4.0));
    // Every fifth one.
    let fates = run("delay 10ms reorder 100% gap 5");
    assert!(
        fates
            .iter()
            .enumerate()
            .all(|(place, fate)| fate.reordered == (place % 5 == 4))
    );
}
