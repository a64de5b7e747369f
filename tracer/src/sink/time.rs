//! Moments as RFC 3339 writes them, by arithmetic alone: one is formatted for every record.

use crate::model::event::BootNanos;

const NANOS: i64 = 1_000_000_000;
const DAY: i64 = 86_400;

/// A moment in UTC with nine digits of the second, as in `2026-11-22T21:04:05.123456789Z`.
#[derive(Debug)]
pub(super) struct Moment([u8; 30]);

impl Moment {
    /// The moment `nanos` nanoseconds after 1970-01-01T00:00:00Z.
    pub(super) fn new(nanos: i64) -> Self {
        let seconds = nanos.div_euclid(NANOS);
        let (year, month, day) = civil(seconds.div_euclid(DAY));
        let of_day = seconds.rem_euclid(DAY);
        let mut text = *b"0000-00-00T00:00:00.000000000Z";
        digits(&mut text[0..4], year);
        digits(&mut text[5..7], month);
        digits(&mut text[8..10], day);
        digits(&mut text[11..13], of_day / 3600);
        digits(&mut text[14..16], of_day / 60 % 60);
        digits(&mut text[17..19], of_day % 60);
        digits(&mut text[20..29], nanos.rem_euclid(NANOS));
        Self(text)
    }

    /// All of it.
    pub(super) fn as_str(&self) -> &str {
        self.part(0, 30)
    }

    /// The date, as in `2026-11-22`.
    pub(super) fn date(&self) -> &str {
        self.part(0, 10)
    }

    /// The time of day in seconds, as in `21:04:05`.
    pub(super) fn seconds(&self) -> &str {
        self.part(11, 19)
    }

    /// The time of day in milliseconds, as in `21:04:05.123`.
    pub(super) fn millis(&self) -> &str {
        self.part(11, 23)
    }

    fn part(&self, from: usize, to: usize) -> &str {
        // Nothing but ASCII is ever written to it.
        str::from_utf8(&self.0[from..to]).unwrap_or_default()
    }
}

/// Moments that follow one another, as those of a stream of records do.
#[derive(Debug)]
pub(super) struct Moments {
    /// When the second of `last` began; nothing where that is before the first moment that can be told.
    second: Option<i64>,
    last: Moment,
}

impl Moments {
    /// The moment `nanos` nanoseconds after 1970-01-01T00:00:00Z, as text.
    pub(super) fn at(&mut self, nanos: i64) -> &[u8] {
        // Of a second that is written already the fraction alone is written anew.
        match self.second.and_then(|second| nanos.checked_sub(second)) {
            Some(fraction @ 0..NANOS) => digits(&mut self.last.0[20..29], fraction),
            _ => {
                self.second = nanos.checked_sub(nanos.rem_euclid(NANOS));
                self.last = Moment::new(nanos);
            }
        }
        &self.last.0
    }
}

impl Default for Moments {
    fn default() -> Self {
        Self { second: Some(0), last: Moment::new(0) }
    }
}

/// A moment of the boot clock on the wall clock, given wall clock minus boot clock. Nanoseconds.
pub(super) fn wall(boot: BootNanos, clock_offset: i64) -> i64 {
    i64::try_from(boot).unwrap_or(i64::MAX).saturating_add(clock_offset)
}

/// A moment of the wall clock on the boot clock; 0 for all that lies before it started. Nanoseconds.
pub(super) fn boot(wall: i64, clock_offset: i64) -> BootNanos {
    u64::try_from(wall.saturating_sub(clock_offset)).unwrap_or(0)
}

/// Year, month and day of a day counted from 1970-01-01 in the proleptic Gregorian calendar. Years are
/// counted from March, so that the leap day is the last one of a year.
fn civil(days: i64) -> (i64, i64, i64) {
    let since_era = days + 719_468; // from 0000-03-01
    let (era, day_of_era) = (since_era.div_euclid(146_097), since_era.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_based = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_based + 2) / 5 + 1;
    let month = if march_based < 10 { march_based + 3 } else { march_based - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// Writes `number`, which is not negative, with leading zeros over the whole of `field`.
fn digits(field: &mut [u8], mut number: i64) {
    for digit in field.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_moments_are_written_as_the_calendar_has_them() {
        for (nanos, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (951_782_400 * NANOS, "2000-02-29T00:00:00.000000000Z"),
            (1_795_381_445_123_456_789, "2026-11-22T21:04:05.123456789Z"),
            (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
            (i64::MIN, "1677-09-21T00:12:43.145224192Z"),
        ] {
            assert_eq!(Moment::new(nanos).as_str(), text);
        }
    }

    #[test]
    fn the_parts_are_parts_of_the_whole() {
        let moment = Moment::new(1_795_381_445_123_456_789);
        assert_eq!(
            (moment.date(), moment.seconds(), moment.millis()),
            ("2026-11-22", "21:04:05", "21:04:05.123")
        );
    }

    #[test]
    fn clocks_at_their_limits_neither_wrap_nor_panic() {
        assert_eq!(wall(u64::MAX, i64::MAX), i64::MAX);
        assert_eq!(boot(i64::MIN, i64::MAX), 0);
        assert_eq!(boot(wall(7, 1000), 1000), 7);
    }

    #[test]
    fn the_first_second_that_can_be_told_has_no_beginning() {
        let mut moments = Moments::default();
        for nanos in [i64::MIN, i64::MIN + 5, i64::MIN + NANOS] {
            assert_eq!(moments.at(nanos), Moment::new(nanos).as_str().as_bytes());
        }
    }

    proptest! {
        #[test]
        fn every_moment_agrees_with_jiff(nanos: i64) {
            let expected = Timestamp::from_nanosecond(i128::from(nanos)).unwrap();
            let moment = Moment::new(nanos);
            prop_assert_eq!(moment.as_str(), format!("{expected:.9}"));
        }

        #[test]
        fn moments_that_follow_one_another_are_the_same_as_single_ones(start: i64, steps: Vec<i32>) {
            let (mut moments, mut nanos) = (Moments::default(), start);
            for step in steps {
                nanos = nanos.saturating_add(step.into());
                let alone = Moment::new(nanos);
                prop_assert_eq!(moments.at(nanos), alone.as_str().as_bytes());
            }
        }
    }
}
