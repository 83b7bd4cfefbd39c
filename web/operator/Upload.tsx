import { type DragEvent, useState } from "react";
import { useAction } from "./action";
import { send } from "./api";
import { Outcome } from "./Outcome";
import type { Documents } from "./shapes";
import { size } from "./times";

/** Takes files that are chosen, or dropped on it. */
export function Upload({ library, onUploaded }: { library: Documents; onUploaded: () => void }) {
  const { formats, max_bytes } = library;
  const [over, setOver] = useState(false);
  const action = useAction();

  async function upload(files: File[]) {
    if (files.length === 0) return;
    await action.run(async () => {
      let done = { done: "" };
      for (const file of files) {
        const form = new FormData();
        form.append("file", file, file.name);
        done = await send("POST", "/api/documents", form);
        onUploaded();
      }
      return files.length === 1 ? done : { done: `${files.length} files were uploaded.` };
    });
  }

  function drop(event: DragEvent) {
    event.preventDefault();
    setOver(false);
    void upload([...event.dataTransfer.files]);
  }

  return (
    <>
      <label
        className="drop"
        data-over={over}
        data-testid="drop"
        onDragOver={(event) => {
          event.preventDefault();
          setOver(true);
        }}
        onDragLeave={() => setOver(false)}
        onDrop={drop}
      >
        <input
          type="file"
          multiple
          className="visually-hidden"
          accept={formats?.join(",")}
          disabled={action.busy}
          onChange={({ currentTarget }) => {
            void upload([...(currentTarget.files ?? [])]);
            currentTarget.value = ""; // the same file can be chosen again
          }}
        />
        <b>{action.busy ? "Uploading …" : "Drop files here, or choose them"}</b>
        <span className="quiet">
          {[formats?.map((one) => one.replace(/^\./, "")).join(", "), max_bytes && `up to ${size(max_bytes)} each`]
            .filter(Boolean)
            .join("; ")}
        </span>
      </label>
      <Outcome action={action} />
    </>
  );
}
