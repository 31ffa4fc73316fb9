// Chromium calls the language of a machine without a locale en-US@posix. Intl refuses that, and uPlot asks Intl for it as
// soon as it is loaded: so this comes before.

try {
  Intl.getCanonicalLocales(navigator.language);
} catch {
  Object.defineProperty(navigator, 'language', { value: 'en' });
}
