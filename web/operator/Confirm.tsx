import { AlertDialog } from "@base-ui/react/alert-dialog";
import { type ReactNode, useState } from "react";

/** A button whose action is asked about once more. */
export function Confirm({ label, title, question, yes, disabled, className, name, onYes }: {
  label: ReactNode;
  title: string;
  question: string;
  yes: string;
  disabled?: boolean;
  className?: string;
  name?: string; // for a screen reader, where the label alone does not say of what
  onYes: () => void;
}) {
  const [open, setOpen] = useState(false);
  return (
    <AlertDialog.Root open={open} onOpenChange={setOpen}>
      <AlertDialog.Trigger className={className} disabled={disabled} aria-label={name}>
        {label}
      </AlertDialog.Trigger>
      <AlertDialog.Portal>
        <AlertDialog.Backdrop className="backdrop" />
        <AlertDialog.Popup className="dialog">
          <AlertDialog.Title className="dialog-title">{title}</AlertDialog.Title>
          <AlertDialog.Description className="quiet">{question}</AlertDialog.Description>
          <div className="actions">
            <AlertDialog.Close>Cancel</AlertDialog.Close>
            <button
              type="button"
              className="danger"
              onClick={() => {
                setOpen(false);
                onYes();
              }}
            >
              {yes}
            </button>
          </div>
        </AlertDialog.Popup>
      </AlertDialog.Portal>
    </AlertDialog.Root>
  );
}
