/** The text of instructions while it is edited. */
export interface Draft {
  name: string;
  language: string;
  greeting: string;
  instructions: string;
}

export function PersonaForm({ draft, onChange, onSave }: {
  draft: Draft;
  onChange: (draft: Draft) => void;
  onSave: () => void;
}) {
  const set = (key: keyof Draft) => (event: { target: { value: string } }) =>
    onChange({ ...draft, [key]: event.target.value });
  return (
    <form
      className="fields"
      onSubmit={(event) => {
        event.preventDefault();
        onSave();
      }}
    >
      <div className="pair">
        <label>
          Name
          <input value={draft.name} maxLength={255} required onChange={set("name")} />
        </label>
        <label>
          Language
          <input
            value={draft.language}
            maxLength={10}
            placeholder="en, de-CH"
            onChange={set("language")}
          />
        </label>
      </div>
      <label>
        Greeting
        <textarea rows={2} value={draft.greeting} onChange={set("greeting")} />
      </label>
      <label>
        Instructions
        <textarea rows={14} value={draft.instructions} required onChange={set("instructions")} />
      </label>
    </form>
  );
}
