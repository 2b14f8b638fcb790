//! Moments and ranges of a calendar.

use super::FromText;

/// A moment in UTC, in seconds since 1970 began; before that it is negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DateTime(pub i64);

const DAY: i64 = 86_400;

/// Days from 1970 to the first of a month, in the calendar that goes back for ever.
fn days_before(year: i64, month: i64) -> i64 {
    // Years begin in March, so that the leap day is the last one.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let days = of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5;
    era * 146_097 + days - 719_468
}

fn days_in(year: i64, month: i64) -> i64 {
    let next = if month == 12 {
        days_before(year + 1, 1)
    } else {
        days_before(year, month + 1)
    };
    next - days_before(year, month)
}

/// Monday is 1 and Sunday 7.
fn weekday(days: i64) -> i64 {
    (days + 3).rem_euclid(7) + 1
}

/// The Monday of the first ISO week of a year: the week with its first Thursday.
fn first_week(year: i64) -> i64 {
    let fourth = days_before(year, 1) + 3;
    fourth - (weekday(fourth) - 1)
}

impl DateTime {
    /// A moment of the calendar in UTC; `None` if there is no such day or time.
    #[must_use]
    pub fn from_calendar(
        (year, month, day): (i64, i64, i64),
        (hour, minute, second): (i64, i64, i64),
    ) -> Option<DateTime> {
        let date = (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
        let time = (0..=24).contains(&hour)
            && (0..60).contains(&minute)
            && (0..=60).contains(&second)
            && (hour < 24 || minute + second == 0);
        (date && time && (-9999..=9999).contains(&year)).then(|| {
            let days = days_before(year, month) + day - 1;
            DateTime(days * DAY + hour * 3600 + minute * 60 + second)
        })
    }

    /// Year, month and day in UTC.
    #[must_use]
    pub fn date(self) -> (i64, i64, i64) {
        let days = self.0.div_euclid(DAY) + 719_468;
        let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = year + era * 400 + i64::from(month <= 2);
        (year, month, day)
    }

    /// Hour, minute and second in UTC.
    #[must_use]
    pub fn time(self) -> (i64, i64, i64) {
        let of_day = self.0.rem_euclid(DAY);
        (of_day / 3600, of_day / 60 % 60, of_day % 60)
    }

    /// The day of the year, from 1.
    #[must_use]
    pub fn year_day(self) -> i64 {
        self.0.div_euclid(DAY) - days_before(self.date().0, 1) + 1
    }

    /// The day of the week, Monday 1 to Sunday 7.
    #[must_use]
    pub fn week_day(self) -> i64 {
        weekday(self.0.div_euclid(DAY))
    }

    /// The year that the ISO week belongs to, and the week, from 1.
    #[must_use]
    pub fn week(self) -> (i64, i64) {
        let days = self.0.div_euclid(DAY);
        let year = self.date().0;
        let year = if days < first_week(year) {
            year - 1
        } else if days >= first_week(year + 1) {
            year + 1
        } else {
            year
        };
        (year, (days - first_week(year)) / 7 + 1)
    }

    /// The moment so many months later; the last day of the month if that has no such day.
    #[must_use]
    pub fn plus_months(self, months: i64) -> DateTime {
        let (year, month, day) = self.date();
        let index = year * 12 + month - 1 + months;
        let (year, month) = (index.div_euclid(12), index.rem_euclid(12) + 1);
        let days = days_before(year, month) + day.min(days_in(year, month)) - 1;
        DateTime(days * DAY + self.0.rem_euclid(DAY))
    }
}

impl FromText for DateTime {
    const EXPECTED: &'static str = "an ISO 8601 date such as 2026-11-21, 2026-325 or 2026-W47-6, perhaps with a time such as \
         T14:30:00Z";

    /// A date (of the month, the year or the week) and perhaps a time, with a zone or in UTC.
    fn from_text(text: &str) -> Option<DateTime> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("epoch") {
            return Some(DateTime(0));
        }
        let (date, time) = text
            .split_once(['T', ' '])
            .map_or((text, ""), |(date, time)| (date, time.trim_start()));
        let days = date_days(date)?;
        let seconds = time_seconds(time)?;
        Some(DateTime(days * DAY + seconds))
    }

    fn to_text(&self) -> String {
        let (year, month, day) = self.date();
        let (hour, minute, second) = self.time();
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

fn number(text: &str) -> Option<i64> {
    let digits = !text.is_empty() && text.len() <= 6 && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn date_days(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let first = parts.next()?;
    let (year, month, day) = (number(first.get(..4)?)?, parts.next(), parts.next());
    if parts.next().is_some() || (first.len() > 4 && month.is_some()) {
        return None;
    }
    let of_week = |week: &str, day: i64| {
        let week = number(week)?;
        let begin = first_week(year) + (week - 1) * 7;
        let valid = (1..=7).contains(&day) && week >= 1 && begin < first_week(year + 1);
        valid.then_some(begin + day - 1)
    };
    let of_month = |month: i64, day: i64| {
        DateTime::from_calendar((year, month, day), (0, 0, 0)).map(|d| d.0 / DAY)
    };
    let of_year = |day: i64| {
        let length = days_before(year + 1, 1) - days_before(year, 1);
        (1..=length)
            .contains(&day)
            .then(|| days_before(year, 1) + day - 1)
    };
    match (month, day) {
        (Some(week), day) if week.starts_with('W') => {
            of_week(&week[1..], day.map_or(Some(1), number)?)
        }
        (Some(month), Some(day)) => of_month(number(month)?, number(day)?),
        (Some(day), None) if day.len() == 3 => of_year(number(day)?),
        (Some(month), None) => of_month(number(month)?, 1),
        // Without hyphens.
        (None, _) => match first.get(4..)? {
            "" => of_month(1, 1),
            rest if rest.starts_with('W') => {
                let day = rest.get(3..).filter(|d| !d.is_empty());
                of_week(rest.get(1..3)?, day.map_or(Some(1), number)?)
            }
            rest if rest.len() == 3 => of_year(number(rest)?),
            rest if rest.len() == 4 => of_month(number(rest.get(..2)?)?, number(rest.get(2..)?)?),
            _ => None,
        },
    }
}

/// Seconds after midnight in UTC.
fn time_seconds(text: &str) -> Option<i64> {
    if text.is_empty() {
        return Some(0);
    }
    let zone = text.find(['Z', '+', '-']).unwrap_or(text.len());
    let (time, zone) = (text[..zone].trim_end(), &text[zone..]);
    let seconds = clock(time)?;
    let offset = match zone {
        "" | "Z" => 0,
        _ => {
            let sign = if zone.starts_with('-') { -1 } else { 1 };
            sign * clock(&zone[1..])?
        }
    };
    Some(seconds - offset)
}

fn clock(text: &str) -> Option<i64> {
    let text = text.trim();
    let text = text.split_once('.').map_or(text, |(whole, _)| whole);
    let mut parts = [0; 3];
    if text.contains(':') {
        for (index, part) in text.split(':').enumerate() {
            *parts.get_mut(index)? = number(part)?;
        }
    } else if text.is_ascii() {
        for (index, part) in text.as_bytes().chunks(2).enumerate() {
            *parts.get_mut(index)? = number(core::str::from_utf8(part).ok()?)?;
        }
    } else {
        return None;
    }
    let [hour, minute, second] = parts;
    let valid = hour <= 24 && minute < 60 && second <= 60 && (hour < 24 || minute + second == 0);
    valid.then_some(hour * 3600 + minute * 60 + second)
}

/// A range of whole numbers, both ends included, either of which may be open: `9-16`, `5`, `20-`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first number.
    pub from: Option<i64>,
    /// The last number.
    pub to: Option<i64>,
}

impl Range {
    /// Whether a number lies in the range.
    #[must_use]
    pub fn contains(self, value: i64) -> bool {
        self.from.is_none_or(|from| from <= value) && self.to.is_none_or(|to| value <= to)
    }
}

impl FromText for Range {
    const EXPECTED: &'static str = "a number or a range such as 9-16";

    fn from_text(text: &str) -> Option<Range> {
        let end = |text: &str| match text.trim() {
            "" => Some(None),
            text => number(text).map(Some),
        };
        let range = match text.split_once('-') {
            Some((from, to)) => Range {
                from: end(from)?,
                to: end(to)?,
            },
            None => {
                let value = number(text.trim())?;
                Range {
                    from: Some(value),
                    to: Some(value),
                }
            }
        };
        let empty = range.from.is_none() && range.to.is_none();
        (!empty).then_some(range)
    }

    fn to_text(&self) -> String {
        let end = |value: Option<i64>| value.map_or(String::new(), |v| v.to_string());
        if self.from.is_some() && self.from == self.to {
            end(self.from)
        } else {
            format!("{}-{}", end(self.from), end(self.to))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<i64> {
        DateTime::from_text(text).map(|d| d.0)
    }

    /// Protects rules with dates: the forms of ISO 8601 mean the same moment.
    #[test]
    fn the_forms_of_a_date_agree() {
        let day = 1_106_179_200; // 2005-01-20 00:00:00 UTC
        for same in [
            "2005-01-20",
            "20050120",
            "2005-020",
            "2005020",
            "2005-W03-4",
            "2005W034",
        ] {
            assert_eq!(seconds(same), Some(day), "{same}");
        }
        assert_eq!(seconds("2005-020T12:30"), Some(day + 45_000));
        assert_eq!(seconds("2005-01-20 12:30:00 +00:00"), Some(day + 45_000));
        assert_eq!(seconds("2005-01-20T14:30:00+02:00"), Some(day + 45_000));
        assert_eq!(seconds("2005-01-20 1030Z"), Some(day + 37_800));
        assert_eq!(seconds("epoch"), Some(0));
        for bad in [
            "",
            "2005-13-01",
            "2005-02-29",
            "2005-366",
            "2004-W54",
            "2005-01-20T25:00",
        ] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    /// Protects the calendar: a day taken apart is put together again, in leap years too.
    #[test]
    fn days_survive_the_calendar() {
        for day in (-800_000..800_000).step_by(13) {
            let moment = DateTime(day * DAY + 3661);
            let again = DateTime::from_calendar(moment.date(), moment.time());
            assert_eq!(again, Some(moment));
            let (year, week) = moment.week();
            let monday = first_week(year) + (week - 1) * 7;
            assert_eq!(monday + moment.week_day() - 1, day);
        }
        assert_eq!(DateTime::from_text("2024-12-31").unwrap().week(), (2025, 1));
        assert_eq!(DateTime::from_text("2024-12-31").unwrap().year_day(), 366);
        let last = DateTime::from_text("2024-01-31").unwrap().plus_months(1);
        assert_eq!(last.to_text(), "2024-02-29T00:00:00Z");
    }

    /// Protects date specifications: both ends belong to a range, and may be open.
    #[test]
    fn ranges_include_their_ends() {
        let range = Range::from_text("9-16").unwrap();
        assert!(range.contains(9) && range.contains(16) && !range.contains(17));
        assert!(Range::from_text("20-").unwrap().contains(5000));
        assert!(!Range::from_text("5").unwrap().contains(6));
        assert_eq!(Range::from_text("-"), None);
        assert_eq!(Range::from_text("9-16").unwrap().to_text(), "9-16");
    }
}
