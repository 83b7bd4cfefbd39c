/** What a section of the page is given: which of its things is open. */
export interface SectionProps {
  open: string | null;
}
