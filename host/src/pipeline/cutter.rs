//! How the logins of a batch are cut into segments, and how the login at fault is found.
//!
//! Knows nothing of logins but how many there are.

/// Decides how many of the remaining logins the next segment takes.
pub(super) struct Cutter {
    /// The next login.
    next: usize,
    /// How many logins there are.
    end: usize,
    /// The most that a segment takes: halved by rejections, as all behind a rejected login is judged again, and doubled by
    /// every segment that passes.
    reach: usize,
    /// A plugin failed on the logins before this one, and it isn't known yet on which.
    suspect_end: Option<usize>,
}

impl Cutter {
    /// Nothing of so many logins has been taken.
    pub(super) fn new(end: usize) -> Self {
        Self { next: 0, end, reach: usize::MAX, suspect_end: None }
    }

    /// The logins to take next, at most so many (`room`); none when all are done. `one_by_one`: one.
    pub(super) fn next_segment<'r>(&self, rows: &'r [u32], room: usize, one_by_one: bool) -> Option<&'r [u32]> {
        let mut take = (self.end - self.next).min(self.reach).min(room);
        if let Some(suspect_end) = self.suspect_end {
            take = take.min((suspect_end - self.next) / 2).max(1);
        }
        if one_by_one {
            take = take.min(1);
        }
        rows.get(self.next..self.next + take).filter(|segment| !segment.is_empty())
    }

    /// So many logins are done.
    pub(super) fn passed(&mut self, logins: usize) {
        self.next += logins;
        self.reach = self.reach.saturating_mul(2);
        if self.suspect_end.is_some_and(|end| end <= self.next) {
            self.suspect_end = None;
        }
    }

    /// The first of so many that were taken is rejected.
    pub(super) fn rejected_first(&mut self, taken: usize) {
        self.next += 1;
        self.reach = (taken / 2).max(1);
        if self.suspect_end.is_some_and(|end| end <= self.next) {
            self.suspect_end = None;
        }
    }

    /// The login at this place is to stand first in the segment after the next one.
    pub(super) fn cut_before(&mut self, index: usize) {
        self.reach = index;
    }

    /// A plugin failed on so many logins.
    pub(super) fn failed(&mut self, taken: usize) {
        self.suspect_end = Some(self.next + taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes logins through a cutter; `faulty` are those whose segment fails. Returns (calls, found).
    fn bisect(logins: usize, faulty: &[usize]) -> (usize, Vec<usize>) {
        let rows: Vec<u32> = (0..logins as u32).collect();
        let mut cutter = Cutter::new(logins);
        let (mut calls, mut found) = (0, Vec::new());
        while let Some(segment) = cutter.next_segment(&rows, usize::MAX, false) {
            calls += 1;
            if segment.iter().any(|row| faulty.contains(&(*row as usize))) {
                if segment.len() == 1 {
                    found.push(segment[0] as usize);
                    cutter.passed(1);
                } else {
                    cutter.failed(segment.len());
                }
            } else {
                cutter.passed(segment.len());
            }
        }
        (calls, found)
    }

    #[test]
    fn bisecting_finds_exactly_the_logins_at_fault_in_few_calls() {
        for at in 0..100 {
            let (calls, found) = bisect(100, &[at]);
            assert_eq!(found, [at]);
            assert!(calls <= 10, "{calls} calls for login {at}");
        }
        assert_eq!(bisect(64, &[0, 1, 40, 63]).1, [0, 1, 40, 63]);
    }
}
