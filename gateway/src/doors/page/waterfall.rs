//! The steps of a build as bars over its time.

use jiff::{SignedDuration, Timestamp};

use super::{
    outline::{End, Outline, Step},
    when::took,
};

/// All bars, and the time that they lie in.
#[derive(Debug, Default)]
pub(super) struct Waterfall {
    pub(super) bars: Vec<Bar>,
    /// Where the first one begins, in milliseconds since 1970, as all times of the script's.
    pub(super) began: i64,
    pub(super) whole: String,
}

/// One step.
#[derive(Debug)]
pub(super) struct Bar {
    pub(super) number: u32,
    pub(super) name: String,
    /// How it goes: a word, which is also the class of its colour.
    pub(super) state: &'static str,
    /// Where it begins and how long it is, in percent.
    pub(super) at: String,
    pub(super) width: String,
    pub(super) took: String,
    pub(super) began: i64,
    pub(super) ended: Option<i64>,
}

impl Waterfall {
    pub(super) fn of(outline: &Outline, now: Timestamp) -> Self {
        let end_of = |step: &Step| step.end.map_or(now, |(end, _)| end);
        let Some(began) = outline.steps.iter().map(|step| step.began).min() else { return Self::default() };
        let ended = outline.steps.iter().map(end_of).max().unwrap_or(now);
        let whole = ended.duration_since(began);
        let bar = |step: &Step| {
            let took_so_long = end_of(step).duration_since(step.began);
            Bar {
                number: step.number,
                name: step.name.clone(),
                state: state(step),
                at: percent(step.began.duration_since(began), whole),
                width: percent(took_so_long, whole),
                took: took(took_so_long),
                began: step.began.as_millisecond(),
                ended: step.end.map(|(end, _)| end.as_millisecond()),
            }
        };
        Self { bars: outline.steps.iter().map(bar).collect(), began: began.as_millisecond(), whole: took(whole) }
    }
}

fn state(step: &Step) -> &'static str {
    match step.end {
        None => "running",
        Some((_, End::Done)) => "done",
        Some((_, End::Cached)) => "cached",
        Some((_, End::Failed)) => "failed",
        Some((_, End::Stopped)) => "stopped",
    }
}

fn percent(part: SignedDuration, whole: SignedDuration) -> String {
    let share = part.as_secs_f64() / whole.as_secs_f64().max(0.001) * 100.0;
    format!("{:.2}", share.clamp(0.0, 100.0))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    fn step(number: u32, began: i64, end: Option<(i64, End)>) -> Step {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        Step { number, name: "RUN".to_owned(), began: at(began), end: end.map(|(end, how)| (at(end), how)) }
    }

    #[test]
    fn bars_lie_where_their_time_lies() {
        let steps = [step(1, 10, Some((10, End::Cached))), step(2, 10, Some((15, End::Done))), step(3, 15, None)];
        let outline = Outline { steps: VecDeque::from(steps), ..Outline::default() };
        let shown = Waterfall::of(&outline, Timestamp::from_second(20).unwrap());
        let bars: Vec<_> =
            shown.bars.iter().map(|b| (b.state, b.at.as_str(), b.width.as_str(), b.took.as_str())).collect();
        let expected = [
            ("cached", "0.00", "0.00", "0 ms"),
            ("done", "0.00", "50.00", "5.0 s"),
            ("running", "50.00", "50.00", "5.0 s"),
        ];
        assert_eq!((bars.as_slice(), shown.whole.as_str()), (&expected[..], "10 s"));
        assert!(Waterfall::of(&Outline::default(), Timestamp::UNIX_EPOCH).bars.is_empty());
        // A clock that was set back makes no bar longer than the page.
        let odd = Outline { steps: VecDeque::from([step(1, 30, Some((20, End::Done)))]), ..Outline::default() };
        assert_eq!(Waterfall::of(&odd, Timestamp::UNIX_EPOCH).bars[0].width, "0.00");
    }
}
