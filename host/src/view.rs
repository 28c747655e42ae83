//! The live terminal view of the demo: rates, totals by device type, the latest insight, users with most addresses, rejects.
//!
//! Drawing is a pure function of a [`Picture`]; where the numbers come from is not its business. It fits 80×24.

use std::collections::BTreeMap;

use indicatif::HumanCount;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Sparkline};
use serde_json::Value;

/// How many seconds of rates are kept for the curve.
const HISTORY: usize = 76;

/// What is to be seen.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// The first line: where the broker is.
    pub headline: String,
    /// Logins a second, one value a second, the latest one last.
    pub rates: Vec<u64>,
    /// Accepted logins.
    pub accepted: u64,
    /// Rejected logins by code.
    pub rejected: BTreeMap<String, u64>,
    /// Insights.
    pub insights: u64,
    /// Messages still to be read.
    pub lag: u64,
    /// The plugins that serve, `name@version`.
    pub plugins: Vec<String>,
    /// The generation of the plugins.
    pub generation: u64,
    /// The latest insight about a window.
    pub insight: Option<Value>,
}

impl Picture {
    /// Notes the rate of one more second.
    pub fn push_rate(&mut self, rate: u64) {
        self.rates.push(rate);
        let surplus = self.rates.len().saturating_sub(HISTORY);
        self.rates.drain(..surplus);
    }

    fn data(&self, pointer: &str) -> Option<&Value> {
        self.insight.as_ref()?.pointer(&format!("/data{pointer}"))
    }
}

/// Draws the picture.
pub fn draw(frame: &mut Frame<'_>, picture: &Picture) {
    let [head, rates, middle, insight, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(6),
        Constraint::Min(8),
        Constraint::Length(6),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Line::from(picture.headline.as_str()).style(Modifier::BOLD), head);
    draw_rates(frame, picture, rates);
    let [devices, users, rejects] =
        Layout::horizontal([Constraint::Percentage(32), Constraint::Percentage(38), Constraint::Percentage(30)])
            .areas(middle);
    draw_devices(frame, picture, devices);
    draw_users(frame, picture, users);
    draw_rejects(frame, picture, rejects);
    draw_insight(frame, picture, insight);
    let plugins = format!(" generation {} · {} · q quits", picture.generation, picture.plugins.join(" → "));
    frame.render_widget(Line::from(plugins).style(Color::DarkGray), foot);
}

fn titled(title: &str) -> Block<'_> {
    Block::bordered().title(title).border_style(Color::DarkGray).title_style(Color::Cyan)
}

fn draw_rates(frame: &mut Frame<'_>, picture: &Picture, area: Rect) {
    let rejected: u64 = picture.rejected.values().sum();
    let now = picture.rates.last().copied().unwrap_or(0);
    let block = titled(" logins a second ");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let [numbers, curve] = Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(inner);
    let strong = Style::new().add_modifier(Modifier::BOLD);
    let line = Line::from(vec![
        Span::styled(grouped(now), strong.fg(Color::Green)),
        Span::raw("/s   accepted "),
        Span::styled(grouped(picture.accepted), strong),
        Span::raw("   rejected "),
        Span::styled(grouped(rejected), strong.fg(if rejected > 0 { Color::Yellow } else { Color::Reset })),
        Span::raw("   insights "),
        Span::styled(grouped(picture.insights), strong),
        Span::raw(format!("   lag {}", grouped(picture.lag))),
    ]);
    frame.render_widget(line, numbers);
    frame.render_widget(Sparkline::default().data(&picture.rates).style(Color::Green), curve);
}

fn draw_devices(frame: &mut Frame<'_>, picture: &Picture, area: Rect) {
    let mut counts: Vec<(&str, u64)> = picture
        .data("/totals/logins_by_device_type")
        .and_then(Value::as_object)
        .map(|counts| counts.iter().map(|(name, count)| (name.as_str(), count.as_u64().unwrap_or(0))).collect())
        .unwrap_or_default();
    counts.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), *name));
    let most = counts.first().map_or(1, |first| first.1.max(1));
    let width = u64::from(area.width.saturating_sub(21));
    let lines: Vec<Line<'_>> = counts
        .into_iter()
        .map(|(name, count)| {
            let bar = "█".repeat((count * width / most) as usize);
            Line::from(vec![Span::raw(format!("{:<8.8} {:>8} ", name, grouped(count))), Span::styled(bar, Color::Blue)])
        })
        .collect();
    frame.render_widget(Paragraph::new(lines).block(titled(" logins by device type ")), area);
}

fn draw_users(frame: &mut Frame<'_>, picture: &Picture, area: Rect) {
    let users = picture.data("/users/most_unique_ips").and_then(Value::as_array).cloned().unwrap_or_default();
    let number = |user: &Value, member: &str| user.get(member).and_then(Value::as_u64).unwrap_or(0);
    let lines: Vec<Line<'_>> = users
        .iter()
        .map(|user| {
            let id = user.get("user_id").and_then(Value::as_str).unwrap_or_default();
            let id: String = id.chars().take(14).collect();
            Line::from(format!("{id:<14} {:>4} IPs {:>5}", number(user, "unique_ips"), number(user, "total_ips")))
        })
        .collect();
    frame.render_widget(Paragraph::new(lines).block(titled(" users: unique IPs, logins ")), area);
}

fn draw_rejects(frame: &mut Frame<'_>, picture: &Picture, area: Rect) {
    let mut codes: Vec<(&String, &u64)> = picture.rejected.iter().collect();
    codes.sort_by_key(|(code, count)| (std::cmp::Reverse(**count), code.as_str()));
    let lines: Vec<Line<'_>> =
        codes.into_iter().map(|(code, count)| Line::from(format!("{code:<16.16} {:>5}", grouped(*count)))).collect();
    frame.render_widget(Paragraph::new(lines).block(titled(" rejected by code ")), area);
}

fn draw_insight(frame: &mut Frame<'_>, picture: &Picture, area: Rect) {
    let Some(insight) = &picture.insight else {
        frame.render_widget(Paragraph::new("waiting for 100 logins …").block(titled(" latest insight ")), area);
        return;
    };
    let text = |value: Option<&Value>| match value {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "–".to_owned(),
    };
    let title = format!(" latest insight: {} ", text(insight.get("id")));
    let lines = vec![
        Line::from(format!(
            "{} users and {} IPs in the window, {} logins a minute",
            text(picture.data("/in_window/unique_users")),
            text(picture.data("/in_window/unique_ips")),
            text(picture.data("/in_window/logins_per_minute")),
        )),
        Line::from(format!("devices {}", text(picture.data("/in_window/logins_by_device_type")))),
        Line::from(format!(
            "{} users in total, {} unique IPs each on average",
            text(picture.data("/totals/users")),
            text(picture.data("/users/average_unique_ips")),
        )),
        Line::from(format!("developments {}", developments(picture))),
    ];
    frame.render_widget(Paragraph::new(lines).block(titled(&title)), area);
}

fn developments(picture: &Picture) -> String {
    let list = picture.data("/developments").and_then(Value::as_array).cloned().unwrap_or_default();
    if list.is_empty() {
        return "none".to_owned();
    }
    let told = list.iter().map(|one| {
        let text = |member: &str| one.get(member).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |member: &str| one.get(member).and_then(Value::as_f64).unwrap_or_default();
        match text("type").as_str() {
            "device_share" => {
                let percent = |member| number(member) * 100.0;
                format!("{} {:.0} % (was {:.0} %)", text("device_type"), percent("share"), percent("previous"))
            }
            "login_rate" => format!("{:.0}/min (was {:.0})", number("logins_per_minute"), number("previous")),
            "active_users" => format!("{:.0} users (was {:.0})", number("unique_users"), number("previous")),
            other => other.to_owned(),
        }
    });
    told.collect::<Vec<_>>().join(", ")
}

/// A number with its thousands set off: `12 345`.
fn grouped(number: u64) -> String {
    HumanCount(number).to_string().replace(',', " ")
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn rendered(picture: &Picture) -> String {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| draw(frame, picture)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn everything_fits_a_terminal_of_80_by_24() {
        let insight = serde_json::json!({
            "id": "user-login/0/42/summary",
            "data": {
                "in_window": {"logins_by_device_type": {"android": 51, "ios": 47, "unknown": 2}, "unique_users": 63,
                              "unique_ips": 71, "logins_per_minute": 120.5},
                "totals": {"users": 1234, "logins_by_device_type": {"android": 51000, "ios": 4700, "unknown": 200}},
                "users": {"average_unique_ips": 1.75, "most_unique_ips": [
                    {"user_id": "424cdd21-063a-43a7-b91b-7ca1a833afae", "unique_ips": 12, "total_ips": 170}]},
                "developments": [{"type": "device_share", "device_type": "ios", "share": 0.47, "previous": 0.39}]
            }
        });
        let mut picture = Picture {
            headline: "loginscope demo · kcat -C -b 127.0.0.1:9092 -t login-insights".to_owned(),
            accepted: 55_900,
            rejected: BTreeMap::from([("invalid_ip".to_owned(), 12), ("not_json".to_owned(), 30)]),
            insights: 559,
            lag: 7,
            plugins: vec!["validate-logins@0.1.0".to_owned(), "enrich-logins@0.1.0".to_owned()],
            generation: 1,
            insight: Some(insight),
            ..Picture::default()
        };
        (0..100).for_each(|rate| picture.push_rate(rate * 20));
        let screen = rendered(&picture);
        for part in
            ["127.0.0.1:9092", "55 900", "not_json", "android", "424cdd21-063a-", "ios 47 % (was 39 %)", "generation 1"]
        {
            assert!(screen.contains(part), "{part} is missing in\n{screen}");
        }
    }

    #[test]
    fn without_an_insight_it_says_what_it_waits_for() {
        assert!(rendered(&Picture::default()).contains("waiting for 100 logins"));
    }
}
