/** The choice of a language, where there is a choice. */
export function Language({ languages, language, onChoose }: {
  languages: string[];
  language: string;
  onChoose: (language: string) => void;
}) {
  if (languages.length === 0) return null;
  return (
    <label className="choice">
      <span>Language</span>
      <select
        data-testid="language"
        value={language}
        onChange={(event) => onChoose(event.target.value)}
      >
        {languages.map((tag) => (
          <option key={tag} value={tag} lang={tag}>
            {named(tag)}
          </option>
        ))}
      </select>
    </label>
  );
}

/** The one that the browser's user would choose, else the runner's own, which comes first; "" where
 * there is no choice. */
export function preferred(languages: string[]): string {
  if (languages.length === 0) return "";
  const primary = (tag: string) => tag.toLowerCase().split("-")[0];
  for (const tag of navigator.languages) {
    const exact = languages.find((one) => one === tag.toLowerCase());
    const alike = exact ?? languages.find((one) => primary(one) === primary(tag));
    if (alike) return alike;
  }
  return languages[0]!;
}

/** "Deutsch" for de: in the language itself, for those who speak it. */
function named(tag: string): string {
  try {
    const name = new Intl.DisplayNames([tag], { type: "language" }).of(tag) ?? tag;
    return name.charAt(0).toLocaleUpperCase(tag) + name.slice(1);
  } catch {
    return tag;
  }
}
