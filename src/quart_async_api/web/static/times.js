// Moments in the reader's time zone.

const LOCAL = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
export const CLOCK = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23",
});
export const MINUTE = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

/** Show the moments in `place`; where it shows an age or the time of day, the whole is its title. */
export function localTimes(place) {
  for (const time of place.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (Number.isNaN(moment.valueOf())) continue;
    const isPart = time.matches(".ago, .clock");
    if (isPart) time.title = LOCAL.format(moment);
    if (!time.matches(".ago")) time.textContent = (isPart ? CLOCK : LOCAL).format(moment);
  }
  for (const text of place.querySelectorAll("[data-minute]")) {
    text.textContent = text.textContent.replace(/^\d\d:\d\d( UTC)?/, MINUTE.format(new Date(text.dataset.minute)));
  }
}
