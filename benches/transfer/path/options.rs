//! What the command line says.

use std::time::Duration;

pub(crate) const USAGE: &str = "\
usage: path NEAR FAR [options]      makes the TUN devices NEAR and FAR, joins them, and forwards
                                    until standard input ends; then prints its counts
  --delay-ms D         that each packet takes, each way                  [0]
  --loss P             percent of the packets lost at random, each way   [0]
  --one-way            lose from NEAR to FAR only
  --seed N             of what is lost                                   [1]
  --queue-bytes N      that wait on the way, each way; more are lost     [64 MiB]
  --rate-mbit R        10⁶ bits each second, each way                    [without limit]";

pub(crate) struct Options {
    pub(crate) names: [String; 2],
    pub(crate) delay: Duration,
    /// Of 2³² packets so many are lost.
    pub(crate) loss: u64,
    pub(crate) is_one_way: bool,
    pub(crate) seed: u64,
    pub(crate) queue_bytes: usize,
    /// Bytes each second.
    pub(crate) rate: Option<f64>,
}

/// Reads the words of a command line.
pub(crate) fn read(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let names = match (words.next(), words.next()) {
        (Some(near), Some(far)) => [near, far],
        _ => return Err("the first words are the names of two devices".into()),
    };
    let mut options = Options {
        names,
        delay: Duration::ZERO,
        loss: 0,
        is_one_way: false,
        seed: 1,
        queue_bytes: 64 << 20,
        rate: None,
    };
    while let Some(word) = words.next() {
        if word == "--one-way" {
            options.is_one_way = true;
            continue;
        }
        let text = words.next().ok_or(format!("{word} needs a value"))?;
        let number = || -> Result<f64, String> {
            let number: f64 = text.parse().map_err(|_| format!("{word}: {text}"))?;
            (number >= 0.0 && number.is_finite())
                .then_some(number)
                .ok_or(format!("{word} is not negative: {text}"))
        };
        match word.as_str() {
            "--delay-ms" => options.delay = Duration::from_secs_f64(number()? / 1000.0),
            "--loss" => options.loss = (number()? / 100.0 * 4_294_967_296.0) as u64,
            "--seed" => options.seed = number()? as u64,
            "--queue-bytes" => options.queue_bytes = number()? as usize,
            "--rate-mbit" => options.rate = Some(number()? * 1e6 / 8.0),
            _ => return Err(format!("there is no {word}")),
        }
    }
    Ok(options)
}
