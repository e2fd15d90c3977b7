//! Date (RFC 3261 §20.17, RFC 1123).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Headers;
use crate::classes::{decimal, is_lws};
use crate::error::HeaderError;
use crate::header_name::HeaderName;

const MONTHS: [&[u8]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];
const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const SECONDS_A_DAY: u64 = 86_400;

impl<'a> Headers<'a> {
    /// When the message was sent. "SIP restricts the time zone to GMT": any other is an error, which no element
    /// should refuse a message for (RFC 4475 §3.1.2.12).
    pub fn date(&self) -> Result<Option<SystemTime>, HeaderError> {
        let Some(value) = self.single(HeaderName::Date)? else {
            return Ok(None);
        };
        match parse(value) {
            Some(time) => Ok(Some(time)),
            None => Err(self.error(HeaderName::Date, "no date in GMT", value)),
        }
    }
}

/// Prints a time for the Date header field: `Sat, 13 Nov 2010 23:29:00 GMT`. Times before 1970 print as 1970.
pub fn format_date(time: SystemTime) -> String {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let days = seconds / SECONDS_A_DAY;
    let (year, month, day) = civil(days);
    let weekday = DAYS[(days % 7) as usize];
    let month = String::from_utf8_lossy(MONTHS[(month - 1) as usize]);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// `wkday "," SP 2DIGIT SP month SP 4DIGIT SP time SP "GMT"`
fn parse(value: &[u8]) -> Option<SystemTime> {
    let mut words = value
        .split(|byte| is_lws(*byte) || *byte == b',')
        .filter(|word| !word.is_empty());
    let _weekday = words.next()?;
    let day = decimal(words.next()?)?;
    let month = words.next()?;
    let month = MONTHS
        .iter()
        .position(|name| name.eq_ignore_ascii_case(month))? as u32
        + 1;
    let year = decimal(words.next()?).filter(|year| (1970..=9999).contains(year))?;
    let mut time = words.next()?.split(|byte| *byte == b':');
    let hour = decimal(time.next()?).filter(|hour| *hour < 24)?;
    let minute = decimal(time.next()?).filter(|minute| *minute < 60)?;
    let second = decimal(time.next()?).filter(|second| *second <= 60)?;
    let zone = words.next()?;
    if !zone.eq_ignore_ascii_case(b"GMT") || words.next().is_some() || time.next().is_some() {
        return None;
    }
    if day == 0 || day > days_in(year, month) {
        return None;
    }
    let seconds = days_since_epoch(year, month, day) * SECONDS_A_DAY
        + u64::from(hour) * 3600
        + u64::from(minute) * 60
        + u64::from(second);
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn days_in(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => {
            29
        }
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01, for 1970 and later; years are counted from March, so that a leap day is a year's last.
fn days_since_epoch(year: u32, month: u32, day: u32) -> u64 {
    let year = u64::from(if month <= 2 { year - 1 } else { year });
    let month = u64::from((month + 9) % 12);
    let day_of_year = (153 * month + 2) / 5 + u64::from(day) - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

/// The inverse of [`days_since_epoch`].
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_survive_printing_and_parsing() {
        for seconds in (0..4_102_444_800u64).step_by(86_399 * 97) {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(parse(format_date(time).as_bytes()), Some(time));
        }
        let time = UNIX_EPOCH + Duration::from_secs(1_289_690_940);
        assert_eq!(format_date(time), "Sat, 13 Nov 2010 23:29:00 GMT");
    }

    #[test]
    fn dates_outside_gmt_or_the_calendar_are_refused() {
        assert!(parse(b"Fri, 01 Jan 2010 16:00:00 EST").is_none());
        assert!(parse(b"Fri, 30 Feb 2010 16:00:00 GMT").is_none());
        assert!(parse(b"Fri, 01 Jan 99999999999 16:00:00 GMT").is_none());
        assert!(parse(b"").is_none());
    }
}
